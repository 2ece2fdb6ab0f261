import http.server
import json
import os
import tempfile
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from waiting import PATIENCE

from training.datasets import get
from training.datasets.store import raw_files, tfds as tfds_store
from training.datasets.ts_format import MalformedTs
from training.datasets.uea_ucr import UeaUcr, archive, names
from training.datasets.uea_ucr.builder import UeaUcr as Builder

HEADER = "@missing true\n@univariate false\n@dimensions 2\n@equalLength false\n@classLabel true {}\n@data\n"
# Nothing is known of channel 2 in the second test case; its mean in training is (2 + 4 + 6 + 8) / 4 = 5.
TRAIN = HEADER.format("up down") + "1,?,3:2,4,6:up\n5:8:down\n"
TEST = HEADER.format("down up") + "?,7,?:1,1,1:down\n0,0:?,?:up\n"
FILES = {"Toy_TRAIN.ts": TRAIN, "Toy_TEST.ts": TEST}


def write_zip(path: Path, files: dict[str, str]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, text in files.items():
            file.writestr(name, text)
    return path


class TestBuilder(tfds.testing.DatasetBuilderTestCase):
    """TFDS's own checks, on a set that TFDS is given as a file placed by hand."""

    DATASET_CLASS = Builder
    BUILDER_CONFIG_NAMES_TO_TEST = [Builder.get_builder_config("Toy")]  # noqa: RUF012
    SPLITS = {"train": 2, "test": 2}  # noqa: RUF012

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.EXAMPLE_DIR = cls.enterClassContext(tempfile.TemporaryDirectory())
        write_zip(Path(cls.EXAMPLE_DIR) / "Toy.zip", FILES)


@pytest.fixture
def placed(empty_data_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which files placed by hand are looked for; it holds Toy.zip. There is no network."""
    monkeypatch.setenv("ZOO_MANUAL_DIR", str(tmp_path))
    monkeypatch.setattr(raw_files, "_why_unreachable", lambda url: "no network")
    folder = tmp_path / "uea_ucr"
    folder.mkdir()
    write_zip(folder / "Toy.zip", FILES)
    return folder


def test_a_set_is_loaded_by_its_name(placed: Path) -> None:
    dataset = get("uea_ucr/Toy")
    assert not dataset.is_prepared()
    train, test = dataset.load("train"), dataset.load("test")
    assert dataset.is_prepared()
    assert [sequence.tolist() for sequence in train.sequences] == [[[1, 2], [2, 4], [3, 6]], [[5, 8]]]
    assert train.labels.tolist() == [0, 1]
    assert [sequence.tolist() for sequence in test.sequences] == [[[7, 1], [7, 1], [7, 1]], [[0, 5], [0, 5]]]
    assert test.labels.tolist() == [1, 0]  # the header of the test file lists them the other way round


def test_the_spec_is_what_the_files_hold(placed: Path) -> None:
    spec = get("uea_ucr/Toy").spec
    assert (spec.name, spec.task, spec.channels, spec.classes) == ("uea_ucr/Toy", "classification", 2, ("up", "down"))
    assert (spec.lengths, spec.counts) == ((1, 3), {"train": 2, "test": 2})
    assert "5 missing values filled" in spec.features
    assert "none stated" in spec.licence
    assert "arXiv:1811.00075" in spec.citation
    assert spec.homepage.endswith("Dataset=Toy")
    assert "Toy_TRAIN.ts" in spec.split_rule
    assert spec.references == ()


def test_what_is_prepared_needs_neither_file_nor_tfds(placed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = get("uea_ucr/Toy").load("test").digest()
    (placed / "Toy.zip").unlink()
    monkeypatch.setattr(tfds_store, "prepare", lambda *arguments: pytest.fail("prepared again"))
    assert get("uea_ucr/Toy").load("test").digest() == digest
    assert isinstance(get("uea_ucr/Toy").load("test", in_memory=False).sequences.values, np.memmap)


def test_prepared_data_stays_as_in_the_files(placed: Path) -> None:
    get("uea_ucr/Toy").prepare()
    builder = Builder(data_dir=tfds_store.data_directory(), config="Toy")
    rows = list(tfds_store.read(Builder, "test", config="Toy"))
    np.testing.assert_array_equal(rows[1]["series"], np.array([[0, np.nan], [0, np.nan]], np.float32))
    assert builder.info.features["label"].names == ["up", "down"]
    assert builder.info.metadata == {
        "url": "https://timeseriesclassification.com/aeon-toolkit/Toy.zip",
        "sha256": archive.sha256_of(placed / "Toy.zip"),
        "sha256_was_known": False,
        "missing": 5,
    }


def test_a_set_without_missing_values(placed: Path) -> None:
    text = "@univariate true\n@classLabel true a b\n@data\n"
    write_zip(placed / "Toy.zip", {"Toy_TRAIN.ts": f"{text}1,2:a\n3,4:b\n", "Toy_TEST.ts": f"{text}5,6:b\n"})
    dataset = get("uea_ucr/Toy")
    assert dataset.load("test").sequences[0].tolist() == [[5], [6]]
    assert dataset.spec.features == "1 channel as the archive has them, units not stated"


def test_an_interrupted_preparation_is_completed(placed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(UeaUcr, "_keep_facts", lambda self, facts: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            get("uea_ucr/Toy").prepare()
    assert not get("uea_ucr/Toy").is_prepared()
    assert "5 missing values" in get("uea_ucr/Toy").spec.features


@pytest.mark.parametrize("damage", ["facts", "values"])
def test_damaged_data_is_refused(damage: str, placed: Path) -> None:
    dataset = get("uea_ucr/Toy")
    dataset.prepare()
    name = {"facts": "facts.json", "values": "train/values.bin"}[damage]
    (path,) = tfds_store.data_directory().glob(f"packed/uea_ucr/Toy-*/{name}")
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(tfds_store.PreparationFailed, match=r"delete .* and run again"):
        dataset.load("train")


def test_a_disk_that_cannot_be_written(placed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("training.datasets.uea_ucr.write_safely", full)
    with pytest.raises(tfds_store.PreparationFailed, match=r"facts\.json .*No space left.*TFDS_DATA_DIR"):
        UeaUcr("Toy")._keep_facts({})


def test_a_name_that_is_looked_up_forever_is_offline(empty_data_directory: Path, tmp_path: Path, monkeypatch) -> None:
    refused = threading.Event()

    def looks_up_forever(*arguments: object, **options: object) -> None:
        refused.wait(PATIENCE)
        raise OSError("looked up for long enough")  # what the thread left behind gets, as from a real network

    monkeypatch.setenv("ZOO_MANUAL_DIR", str(tmp_path))
    monkeypatch.setattr("socket.getaddrinfo", looks_up_forever)
    with pytest.raises(raw_files.RawFileMissing) as error:
        _ = get("uea_ucr/ECG5000").spec
    refused.set()
    for fact in ("needs ECG5000.zip", str(tmp_path / "uea_ucr"), archive.url_of("ECG5000"), "put the file there"):
        assert fact in str(error.value)
    assert "known here" not in str(error.value)


@pytest.fixture
def served(empty_data_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a server of this machine that offers Toy.zip."""
    folder = tmp_path / "served"
    folder.mkdir()
    write_zip(folder / "Toy.zip", FILES)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments, directory=str(folder))  # type: ignore[arg-type]

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("ZOO_MANUAL_DIR", str(tmp_path / "nothing placed"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setattr(archive, "url_of", lambda name: f"{address}/{name}.zip")
        yield address
        server.shutdown()


def test_a_set_is_downloaded(served: str) -> None:
    assert get("uea_ucr/Toy").load("train").labels.tolist() == [0, 1]
    metadata = Builder(data_dir=tfds_store.data_directory(), config="Toy").info.metadata
    assert (metadata["url"], metadata["sha256_was_known"]) == (f"{served}/Toy.zip", False)
    assert len(metadata["sha256"]) == 64


def registered(checksum: str, size: int, url: str) -> dict[str, object]:
    return {
        url: tfds.download.checksums.UrlInfo(size=tfds.core.utils.Size(size), checksum=checksum, filename="Toy.zip")
    }


def test_a_registered_checksum_is_enforced(served: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "served" / "Toy.zip"
    monkeypatch.setattr(Builder, "url_infos", registered("0" * 64, file.stat().st_size, f"{served}/Toy.zip"))
    with pytest.raises(tfds_store.PreparationFailed, match="NonMatchingChecksumError"):
        get("uea_ucr/Toy").prepare()
    right = registered(archive.sha256_of(file), file.stat().st_size, f"{served}/Toy.zip")
    monkeypatch.setattr(Builder, "url_infos", right)
    get("uea_ucr/Toy").prepare()
    assert Builder(data_dir=tfds_store.data_directory(), config="Toy").info.metadata["sha256_was_known"] is True


def test_a_registered_checksum_holds_for_a_placed_file_too(placed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = (placed / "Toy.zip").stat().st_size
    monkeypatch.setattr(Builder, "url_infos", registered("0" * 64, size, archive.url_of("Toy")))
    with pytest.raises(tfds_store.PreparationFailed, match="NonMatchingChecksumError"):
        get("uea_ucr/Toy").prepare()


def test_a_name_that_the_archive_does_not_have(served: str) -> None:
    with pytest.raises(raw_files.RawFileMissing, match=r"HTTPError.*; the name is not .*: did you mean ECG5000"):
        get("uea_ucr/ECG500").prepare()


BROKEN: dict[str, tuple[dict[str, str], str]] = {
    "a file is missing": ({"Toy_TRAIN.ts": TRAIN, "x.arff": ""}, r"has 0 files Toy_TEST\.ts, expected 1; .*x\.arff"),
    "two files of one name": ({**FILES, "again/Toy_TEST.ts": TEST}, r"has 2 files Toy_TEST\.ts, expected 1"),
    "no such format": ({**FILES, "Toy_TEST.ts": TEST + "1:2:\n"}, r"Toy\.zip: Toy_TEST\.ts, line 9: received a case"),
    "numbers to predict": (
        dict.fromkeys(FILES, "@targetLabel true\n@data\n1:2\n"),
        "received a train file with target labels, expected @classLabel true",
    ),
    "no labels": (dict.fromkeys(FILES, "@classLabel false\n@data\n1\n"), "a train file with no labels"),
    "other classes": (
        {**FILES, "Toy_TEST.ts": HEADER.format("up left") + "1:2:up\n"},
        "received class 'left' in the test file's header, expected those of the train file's: up, down",
    ),
}


@pytest.mark.parametrize(("files", "message"), BROKEN.values(), ids=BROKEN)
def test_broken_archives_prepare_nothing(files: dict[str, str], message: str, placed: Path) -> None:
    write_zip(placed / "Toy.zip", files)
    with pytest.raises((archive.UnusableArchive, MalformedTs), match=message) as refusal:
        get("uea_ucr/Toy").prepare()
    assert str(placed / "Toy.zip") in str(refusal.value)
    assert not get("uea_ucr/Toy").is_prepared()
    assert not tfds_store.is_prepared("uea_ucr/Toy", UeaUcr.version)


@pytest.mark.parametrize("content", [b"<html>not found</html>", b""])
def test_what_is_no_zip_file(content: bytes, placed: Path) -> None:
    (placed / "Toy.zip").write_bytes(content)
    with pytest.raises(archive.UnusableArchive, match=r"Toy\.zip is damaged or no zip file .*: delete it and get http"):
        get("uea_ucr/Toy").prepare()


def test_a_damaged_zip_file(placed: Path) -> None:
    content = bytearray((placed / "Toy.zip").read_bytes())
    content[60:70] = bytes(10)
    (placed / "Toy.zip").write_bytes(content)
    with pytest.raises(archive.UnusableArchive, match="is damaged or no zip file"):
        get("uea_ucr/Toy").prepare()


def test_files_in_folders_are_found(placed: Path) -> None:
    files = {f"Toy/{name}": text for name, text in FILES.items()}
    write_zip(placed / "Toy.zip", {**files, "__MACOSX/Toy/._Toy_TRAIN.ts": "x"})
    assert len(get("uea_ucr/Toy").load("train")) == 2


def test_names() -> None:
    assert len(set(names.KNOWN)) == len(names.KNOWN) == 162
    assert {"ECG5000", "Yoga", "PEMS-SF", "JapaneseVowels"} < set(names.KNOWN)
    for name in (*names.KNOWN, "NewSet_2031"):
        assert get(f"uea_ucr/{name}").name == name  # type: ignore[attr-defined]
    assert names.hint("NewSet_2031") == "; the name is not one of those known here"
    for wrong in ("", "../ECG5000", "ECG 5000", "-x", "a.b", "ECG5000/train"):
        with pytest.raises(names.UnknownSet, match="expected a name of letters, digits, _ and -") as refusal:
            get(f"uea_ucr/{wrong}")
        assert refusal.value.exit_code == 2
    with pytest.raises(names.UnknownSet, match="did you mean 'uea_ucr/ECG5000'"):
        get("uea_ucr/ecg5000")


def test_published_figures() -> None:
    assert [(figure.figure, figure.value) for figure in names.references("ECG5000")] == [
        ("test accuracy, LSTM-FCN", 0.9433),
        ("test accuracy, ALSTM-FCN", 0.9396),
    ]
    assert set(names._LSTM_FCN) < set(names.KNOWN)


def test_tfds_knows_every_set(empty_data_directory: Path) -> None:
    for name in ("ECG5000", "PEMS-SF", "NewSet_2031"):
        builder = tfds.builder(f"uea_ucr/{name}", data_dir=empty_data_directory)
        assert builder.builder_config.name == name
        assert "arXiv:1811.00075" in builder.info.citation
        assert "none stated" in builder.info.redistribution_info.license
    with pytest.raises(names.UnknownSet):
        tfds.builder("uea_ucr/ecg5000", data_dir=empty_data_directory)


def test_the_list_of_checksums_can_be_read() -> None:
    text = (Path(archive.__file__).parent / "checksums.tsv").read_text()
    assert "no checksums" in text
    assert Builder.url_infos == {}
    assert os.fspath(Builder._checksums_path).endswith("uea_ucr/checksums.tsv")


def test_facts_are_plain_json(placed: Path) -> None:
    get("uea_ucr/Toy").prepare()
    (path,) = tfds_store.data_directory().glob("packed/uea_ucr/Toy-*/facts.json")
    assert json.loads(path.read_text())["classes"] == ["up", "down"]
