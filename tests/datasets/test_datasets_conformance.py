"""Every dataset in DATASETS keeps the same promises; a new one is tested by being in the dict."""

import subprocess
import sys
from pathlib import Path
from urllib.parse import urlparse

import numpy as np
import pytest
from waiting import PATIENCE

from training.datasets import DATASETS, Dataset, Examples, page
from training.datasets.audio import MissingAudioExtra
from training.datasets.store.raw_files import RawFileMissing


def load(dataset: Dataset, split: str) -> Examples:
    try:
        return dataset.load(split)  # type: ignore[arg-type]
    except (RawFileMissing, MissingAudioExtra) as error:
        pytest.skip(str(error))


@pytest.fixture(autouse=True)
def never_download(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.datasets.store.raw_files._why_unreachable", lambda url: "tests do not download")


@pytest.fixture(params=sorted(DATASETS))
def dataset(request: pytest.FixtureRequest) -> Dataset:
    return DATASETS[request.param]


def test_the_spec_is_complete(dataset: Dataset) -> None:
    spec = dataset.spec
    assert DATASETS[spec.name] is dataset
    assert all(
        text.strip()
        for text in (
            spec.features,
            spec.summary,
            spec.needs,
            spec.licence,
            spec.citation,
            spec.homepage,
            spec.split_rule,
            spec.task,
        )
    )
    assert urlparse(spec.homepage).scheme == "https"
    assert spec.channels >= 1
    assert len(set(spec.classes)) == len(spec.classes)
    assert (len(spec.classes) >= 2) == (spec.task in ("classification", "labelling"))
    assert spec.lengths is None or 1 <= spec.lengths[0] <= spec.lengths[1]
    assert list(spec.counts) == ["train", "test"]
    assert min(spec.counts.values()) >= len(spec.classes)
    for reference in spec.references:
        assert reference.figure.strip()
        assert reference.source.strip()
        assert np.isfinite(reference.value)


def test_loading_gives_what_the_spec_says(dataset: Dataset) -> None:
    loaded = {split: load(dataset, split) for split in ("train", "test")}
    spec = dataset.spec
    dataset.validation()  # some have such a part, and are prepared when it is there too
    assert dataset.is_prepared()
    for split, examples in loaded.items():
        assert len(examples) == spec.counts[split]
        assert examples.channels == spec.channels
        if spec.task == "classification":
            assert set(examples.labels.tolist()) == set(range(len(spec.classes)))
    lengths = np.concatenate([examples.lengths for examples in loaded.values()])
    assert spec.lengths in (None, (lengths.min(), lengths.max()))
    if spec.task == "classification" and spec.text:
        return  # People write the same short texts twice; the official splits are taken as they are.
    contents = [{sequence.tobytes() for sequence in examples.sequences} for examples in loaded.values()]
    assert not contents[0] & contents[1]


def test_loading_twice_gives_the_same(dataset: Dataset) -> None:
    assert load(dataset, "test").digest() == load(dataset, "test").digest()


def test_importing_the_package_is_cheap() -> None:
    code = (
        "import sys, training.datasets, training.cli.datasets\n"
        "heavy = {'tensorflow', 'tensorflow_datasets', 'keras', 'sklearn', 'requests', 'rich'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stderr


def test_the_page_for_people_says_the_same(dataset: Dataset) -> None:
    spec = dataset.spec
    text = (Path(__file__).parents[2] / "docs" / "datasets.md").read_text()
    facts, rule = [line for line in text.splitlines() if line.startswith(f"| `{spec.name}` |")]
    for fact in (f"{spec.counts['train']} / {spec.counts['test']}", spec.licence, f"x {spec.channels} |"):
        assert fact in facts
    assert spec.split_rule in rule


def test_the_tables_of_the_page_are_made_from_the_dict() -> None:
    text = (Path(__file__).parents[2] / "docs" / "datasets.md").read_text()
    assert page.page(text) == text, "run python -m training.datasets.page"


def test_where_data_lies_is_inside_the_data_directory(dataset: Dataset, empty_data_directory: Path) -> None:
    places = [*dataset.marks(), *dataset.folders()]
    assert all(place.is_relative_to(empty_data_directory) for place in places)
    assert dataset.is_prepared() == (not dataset.marks())
    assert dataset.bytes_on_disk() == 0


def test_the_page_for_people_states_the_log_mel_parameters() -> None:
    page = (Path(__file__).parents[2] / "docs" / "datasets.md").read_text()
    for name in ("spoken_digit", "speech_commands", "crema_d"):
        assert DATASETS[name].spec.features in page.splitlines()
