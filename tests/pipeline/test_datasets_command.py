import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from training.datasets import DATASETS, UnknownDataset
from training.datasets_command import datasets


def call(*arguments: str) -> Result:
    return CliRunner().invoke(datasets, arguments)


def test_the_table_has_a_whole_row_for_every_dataset() -> None:
    result = call()
    assert result.exit_code == 0
    for name, dataset in DATASETS.items():
        (row,) = [line for line in result.stdout.splitlines() if name in line]
        assert dataset.spec.licence in row
        assert dataset.spec.task in row
        assert f"{dataset.spec.counts['train']} / {dataset.spec.counts['test']}" in row


def test_json_holds_the_whole_spec() -> None:
    result = call("--json")
    listed = {facts["name"]: facts for facts in json.loads(result.stdout)}
    assert set(listed) == set(DATASETS)
    facts = listed["japanese_vowels"]
    assert facts["counts"] == {"train": 270, "test": 370}
    assert facts["lengths"] == [7, 29]
    assert facts["references"][0]["value"] == 0.99
    assert json.loads(call("japanese_vowels", "--json").stdout) == facts


def test_one_dataset_is_described_in_full() -> None:
    result = call("digits_rows")
    words = " ".join(result.stdout.split())
    spec = DATASETS["digits_rows"].spec
    for text in (spec.features, spec.split_rule, spec.citation, spec.homepage, "none known for this split"):
        assert text in words


def test_prepare(empty_data_directory: Path) -> None:
    assert json.loads(call("japanese_vowels", "--json").stdout)["prepared"] is False
    assert "zoo datasets japanese_vowels --prepare" in " ".join(call("japanese_vowels").stdout.split())
    assert json.loads(call("japanese_vowels", "--prepare", "--json").stdout)["prepared"] is True


def test_wrong_calls() -> None:
    without_name = call("--prepare")
    assert without_name.exit_code == 2
    assert "--prepare needs the NAME" in without_name.stderr
    unknown = call("digit_rows")
    assert isinstance(unknown.exception, UnknownDataset)


@pytest.mark.parametrize("name", sorted(DATASETS))
def test_every_dataset_can_be_described(name: str) -> None:
    assert call(name).exit_code == 0
