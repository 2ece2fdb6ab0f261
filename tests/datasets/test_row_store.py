"""Packed examples: what is read is what was written, and nothing half-written or damaged is ever read."""

import errno
import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from waiting import PATIENCE

from training.datasets.base import Examples, InvalidExamples
from training.datasets.store import rows as row_store
from training.datasets.store.rows import Row
from training.datasets.store.tfds import PreparationFailed

LENGTHS = (3, 1, 5)
WORDS = ("", "[UNK]", "to", "be")


def values(length: int) -> Any:
    return np.random.RandomState(length).rand(length, 2).astype("float32")


def rows(target: Callable[[int], Any] = lambda length: length - 1, **more: Any) -> list[Row]:
    return [Row(values(length), target(length), **more) for length in LENGTHS]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "packed" / "sounds" / "1.0" / "train"


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.parent.iterdir() if path != folder]


# === What is written is what is read ===

ROUND_TRIPS: dict[str, tuple[list[Row], tuple[str, ...] | None]] = {
    "labels": (rows(), None),
    "labels and groups": ([Row(values(n), n, group=10 - n) for n in LENGTHS], None),
    "labels by step": (rows(lambda length: np.arange(-1, length - 1)), None),
    "numbers": (rows(lambda length: np.array([length, -length], "float32")), None),
    "forecasts": (rows(lambda length: np.full((4, 2), length, "float32")), None),
    "no targets": (rows(lambda length: None), None),
    "text": ([Row(np.arange(1, n + 1, dtype="int32"), n % 2) for n in (3, 1, 2)], WORDS),
    "text of a language model": ([Row(np.array([2, 3, 1, 2], "int32"))], WORDS),
}


@pytest.mark.parametrize("kind", ROUND_TRIPS)
def test_round_trip(kind: str, folder: Path) -> None:
    given, vocabulary = ROUND_TRIPS[kind]
    read = row_store.read_or_make(folder, lambda: given, (lambda: vocabulary) if vocabulary else None)
    assert row_store.is_made(folder)
    assert leftovers(folder) == []
    assert read.vocabulary == vocabulary
    assert [part.tolist() for part in read.sequences] == [row.sequence.tolist() for row in given]
    assert {part.dtype for part in read.sequences} == {given[0].sequence.dtype}
    if given[0].target is None:
        assert read.targets is None
    else:
        assert [np.asarray(part).tolist() for part in read.targets] == [
            np.asarray(row.target).tolist() for row in given
        ]
    if given[0].group is None:
        assert read.groups is None
    else:
        assert read.groups is not None
        assert read.groups.tolist() == [row.group for row in given]


@pytest.mark.parametrize("kind", ROUND_TRIPS)
def test_mapped_and_in_memory_are_equal(kind: str, folder: Path) -> None:
    given, vocabulary = ROUND_TRIPS[kind]
    mapped = row_store.read_or_make(folder, lambda: given, (lambda: vocabulary) if vocabulary else None)
    loaded = mapped.in_memory()
    assert isinstance(mapped.sequences.values, np.memmap)  # type: ignore[attr-defined]
    assert mapped.digest() == loaded.digest()
    for part in (loaded.sequences, loaded.targets):
        held = getattr(part, "values", part)
        assert not isinstance(held, np.memmap)
    assert loaded.in_memory().digest() == loaded.digest()


def test_what_is_there_is_not_made_again(folder: Path) -> None:
    first = row_store.read_or_make(folder, rows)

    def never() -> Iterator[Row]:
        raise AssertionError("made again")

    assert row_store.read_or_make(folder, never).digest() == first.digest()
    assert row_store.read(folder).digest() == first.digest()


def test_only_one_row_is_held_at_a_time(folder: Path) -> None:
    alive: list[int] = []

    class Counted(np.ndarray):
        def __del__(self) -> None:
            alive.pop()

    def one_by_one() -> Iterator[Row]:
        for _ in range(20):
            alive.append(1)
            # The row before is still bound in the loop that writes; none further back may be.
            assert len(alive) <= 2
            yield Row(np.zeros((1000, 2), "float32").view(Counted), 0)

    row_store.read_or_make(folder, one_by_one)


# === Damage is found ===


@pytest.fixture
def made(folder: Path) -> Path:
    row_store.read_or_make(folder, lambda: [Row(values(n), np.arange(n), group=n) for n in LENGTHS])
    return folder


FILES = ("values.bin", "targets.bin", "lengths.npy", "groups.npy")


@pytest.mark.parametrize("name", FILES)
def test_a_truncated_file_is_found(name: str, made: Path) -> None:
    path = made / name
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(PreparationFailed, match=rf"(?s){made}.*damaged.*{name}.*delete that folder"):
        row_store.read(made)


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_byte_is_found(name: str, made: Path) -> None:
    path = made / name
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(PreparationFailed, match=name):
        row_store.read(made)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_found(name: str, made: Path) -> None:
    (made / name).unlink()
    with pytest.raises(PreparationFailed, match=name):
        row_store.read_or_make(made, rows)


@pytest.mark.parametrize("content", ["", "{", '{"format": 1}', '{"format": 0, "files": {}}', "[]"])
def test_a_damaged_description_is_found(content: str, made: Path) -> None:
    (made / "packed.json").write_text(content)
    with pytest.raises(PreparationFailed, match="delete that folder and run again"):
        row_store.read(made)


def test_a_changed_word_of_the_vocabulary_is_found(folder: Path) -> None:
    row_store.read_or_make(folder, lambda: [Row(np.array([2, 3], "int32"))], lambda: WORDS)
    description = folder / "packed.json"
    description.write_text(description.read_text().replace('"to"', '"so"'))
    with pytest.raises(PreparationFailed, match=r"the SHA-256 in packed\.json does not match"):
        row_store.read(folder)


def test_a_folder_without_its_description_is_not_taken_for_data(made: Path) -> None:
    (made / "packed.json").unlink()
    assert not row_store.is_made(made)
    with pytest.raises(PreparationFailed, match=str(made)) as error:
        row_store.read_or_make(made, rows)
    assert "packed.json" in str(error.value)
    assert leftovers(made) == []


# === Rows that do not go together ===


@pytest.mark.parametrize(
    "odd",
    [
        Row(np.zeros((2, 3), "float32"), 0),
        Row(np.zeros((2, 2), "float64"), 0),
        Row(np.zeros(2, "int32"), 0),
        Row(values(2), None),
        Row(values(2), np.zeros(2, "int64")),
        Row(values(2), np.zeros(2, "float32")),
        Row(values(2), 0, group=1),
    ],
    ids=["channels", "dtype", "text", "no target", "labels by step", "numbers", "group"],
)
def test_rows_of_different_kinds_are_refused(odd: Row, folder: Path) -> None:
    with pytest.raises(InvalidExamples, match="row 2 "):
        row_store.read_or_make(folder, lambda: [Row(values(2), 0), Row(values(1), 1), odd])
    assert not folder.exists()
    assert leftovers(folder) == []


@pytest.mark.parametrize(
    "row",
    [
        Row(values(3), np.zeros(2, "int64")),
        Row(values(3), np.zeros(4, "int64")),
        Row(values(3), np.zeros(3, "int32")),
        Row(values(3), np.int64(1)),
        Row(np.full((3, 2), np.nan, "float32"), 1),
        Row(np.zeros((0, 2), "float32"), 1),
        Row(values(3), -1),
    ],
    ids=["too few labels", "too many labels", "int32 labels", "NumPy label", "not finite", "no step", "negative label"],
)
def test_a_row_that_is_no_example_is_refused_and_not_kept(row: Row, folder: Path) -> None:
    with pytest.raises(InvalidExamples):
        row_store.read_or_make(folder, lambda: [row, row])
    assert not row_store.is_made(folder)


def test_no_rows_are_refused(folder: Path) -> None:
    with pytest.raises(InvalidExamples, match="received 0 sequences"):
        row_store.read_or_make(folder, list)
    assert not folder.exists()


# === Interrupted ===


def test_an_error_while_making_leaves_nothing(folder: Path) -> None:
    def breaks() -> Iterator[Row]:
        yield from rows()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        row_store.read_or_make(folder, breaks)
    assert list(folder.parent.iterdir()) == []
    assert len(row_store.read_or_make(folder, rows)) == len(LENGTHS)


@pytest.mark.parametrize("name", ["write", "fsync", "rename"])
def test_a_full_disk_is_said(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(*{"write": (np, "save"), "fsync": (os, "fsync"), "rename": (os, "rename")}[name], full)
    with pytest.raises(PreparationFailed, match=r"No space left on device.*TFDS_DATA_DIR"):
        row_store.read_or_make(folder, rows)
    assert not folder.exists()
    assert list(folder.parent.iterdir()) == []


KILLED = """
    import sys, time
    import numpy as np
    from pathlib import Path
    from training.datasets.store.rows import Row, read_or_make

    def rows():
        yield Row(np.zeros((1000, 2), "float32"), 0)
        print("writing", flush=True)
        time.sleep(60)

    read_or_make(Path(sys.argv[1]), rows)
"""


def test_a_process_killed_in_mid_write_leaves_nothing_that_is_read(folder: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(KILLED), str(folder)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == "writing\n"
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert len(leftovers(folder)) == 1  # the unfinished folder, under a name that no one reads
    assert not row_store.is_made(folder)
    assert len(row_store.read_or_make(folder, rows)) == len(LENGTHS)


# === Two processes at once ===


TWO_AT_ONCE = """
    import os, sys, time
    import numpy as np
    from pathlib import Path
    from training.datasets.store.rows import Row, read_or_make

    folder, lengths = Path(sys.argv[1]), [int(length) for length in sys.argv[2:]]

    def rows():
        # A mark that stays, unlike the unfinished folder, which the other may have published already.
        (folder.parents[2] / f"{os.getpid()}.writing").touch()
        while len(list(folder.parents[2].glob("*.writing"))) < 2:
            time.sleep(0.005)
        for length in lengths:
            yield Row(np.random.RandomState(length).rand(length, 2).astype("float32"), length - 1)

    print(read_or_make(folder, rows).digest())
"""


def test_two_processes_at_once_get_the_same(folder: Path) -> None:
    command = [sys.executable, "-c", textwrap.dedent(TWO_AT_ONCE), str(folder), *map(str, LENGTHS)]
    with ExitStack() as stack:
        both = [stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True)) for _ in range(2)]
        for process in both:
            stack.callback(process.kill)
        digests = [process.communicate(timeout=PATIENCE)[0].strip() for process in both]
    expected = Examples([values(n) for n in LENGTHS], np.array([n - 1 for n in LENGTHS])).digest()
    assert digests == [expected, expected]
    assert leftovers(folder) == []


def test_the_description_names_every_file(made: Path) -> None:
    about = json.loads((made / "packed.json").read_text())
    assert set(about["files"]) == {path.name for path in made.iterdir()} - {"packed.json"}
