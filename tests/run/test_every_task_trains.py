"""Each kind of task through the whole of `zoo train`: data, model, loss, scores, pictures, what a run keeps."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from tiers import few

from training import datasets, tracking
from training.config import ConfigError, load
from training.datasets import Dataset, Examples, Spec
from training.train import check_model, train_one

SMALL = ["model.units=4", "train.epochs=2", "dataset.batch_size=8"]


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def arrays(kind: str) -> dict[str, object]:
    random = np.random.default_rng(0)
    x = random.normal(size=(60, 9, 2)).astype("float32")
    if kind == "labelling":
        return {"x": x, "y": (x[:, :, 0] > 0).astype(int)}
    if kind == "regression":
        return {"x": x, "y": x[:, :, 0].sum(axis=1) * 100 + 0.5}
    return {"x": x, "y": np.where(x[:, -1, 0] > 0, "up", "down")}


def trained(overrides: list[str]) -> tuple[tracking.StoredRun, set[str]]:
    run_id, result = train_one(load(overrides=[*SMALL, *overrides]), Console(file=io.StringIO()))
    assert result.outcome == "finished"
    [run] = [run for run in tracking.runs() if run.run_id == run_id]
    files = {path.name for path in Path(run.artifacts.removeprefix("file://")).rglob("*")}
    model, task = tracking.load(run)
    assert task["kind"] == json.loads(json.dumps(task))["kind"]
    assert model.count_params() > 0
    return run, files


@pytest.mark.parametrize(
    ("kind", "metric", "picture", "cache"),
    [
        ("classification", "accuracy", "confusion_matrix.png", "memory"),
        ("labelling", "accuracy", "confusion_matrix.png", "memory"),
        ("regression", "mean_absolute_error", "predictions.png", "memory"),
        ("regression", "mean_absolute_error", "predictions.png", "disk"),
    ],
)
@pytest.mark.sample(1)
def test_data_of_ones_own(tmp_path: Path, kind: str, metric: str, picture: str, cache: str) -> None:
    np.savez(tmp_path / "mine.npz", **arrays(kind))
    run, files = trained(["dataset.path=mine.npz", f"dataset.cache={cache}"])
    assert {"model.keras", "task.json", "learning_curves.png", picture} <= files
    for part in ("train", "validation", "best_validation", "test"):
        assert np.isfinite(run.metrics[f"{part}/loss"])
        assert np.isfinite(run.metrics[f"{part}/{metric}"])
    assert run.tags["dataset"] == "own:mine.npz"


def test_a_test_split_without_a_label_that_is_read_costs_its_score_alone(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(60, 9, 2)).astype("float32")
    late = np.full((60, 9), -1)
    late[:, 8] = np.arange(60) % 2
    np.savez(tmp_path / "late.npz", x_train=x, y_train=(x[:, :, 0] > 0).astype(int), x_test=x[::-1], y_test=late)
    run, files = trained(["dataset.path=late.npz", "dataset.max_length=5"])
    assert np.isfinite(run.metrics["best_validation/accuracy"])
    assert not [name for name in run.metrics if name.startswith("test/")]
    assert "model.keras" in files


def test_a_forecast(tmp_path: Path) -> None:
    time = np.arange(200)
    np.savez(tmp_path / "waves.npz", x=np.stack([np.sin(0.3 * time + k) for k in range(6)]).astype("float32"))
    run, files = trained(
        ["dataset.path=waves.npz", "dataset.task=forecasting", "dataset.horizon=3", "dataset.window=20"]
    )
    assert "predictions.png" in files
    assert run.metrics["test/mean_absolute_error"] < run.metrics["test/root_mean_squared_error"] < 1


def test_a_run_records_what_was_understood_and_its_export_remembers_the_columns(tmp_path: Path) -> None:
    from training.cli.export import card_of

    values = np.random.RandomState(0).normal(size=(3, 30)).round(3).tolist()
    rows = [f"{firm},{1935 + year},{values[firm][year]}" for firm in range(3) for year in range(30)]
    (tmp_path / "firms.csv").write_text("\n".join(["firm,year,invested", *rows]) + "\n")
    run, files = trained(
        [
            "dataset.path=firms.csv",
            "dataset.task=forecasting",
            "dataset.horizon=2",
            "dataset.window=4",
            "dataset.id=firm",
        ]
    )
    assert "data_notes.txt" in files
    folder = Path(run.artifacts.removeprefix("file://"))
    assert "'year' is named like a clock and only grows" in (folder / "data_notes.txt").read_text()
    task = json.loads((folder / "task.json").read_text())
    columns = {"id": ["firm"], "time": ["year"], "channels": ["invested"]}
    assert task["columns"] == columns
    card = card_of(run, "firms", task)
    assert card["dataset"]["columns"] == columns
    assert card["config"]["dataset.id"] == "['firm']"


def test_class_weights_and_augmentation(tmp_path: Path) -> None:
    np.savez(tmp_path / "mine.npz", **arrays("classification"))
    trained(
        ["dataset.path=mine.npz", "dataset.class_weights=true", 'dataset.augment=["jitter(0.1)", "time_mask(0.2)"]']
    )


class Rhyme(Dataset):
    """The same line again and again: what follows is certain once the line is known."""

    spec = Spec(
        name="rhyme",
        features="characters",
        channels=1,
        classes=(),
        lengths=None,
        counts={"train": 1, "test": 1},
        licence="none",
        citation="nobody",
        homepage="https://example.org",
        split_rule="the same text",
        task="language_model",
        text=True,
    )

    def _read(self, split: str) -> Examples:
        tokens = np.tile(np.arange(2, 8, dtype=np.int32), 400)
        return Examples([tokens], vocabulary=("", "[UNK]", *"abcdef"))

    def validation(self) -> Examples:
        return self._read("train")


@pytest.mark.parametrize("model", few(["lstm", "tcn"], ["lstm"]))  # with and without states to carry
def test_a_language_model_learns_a_rhyme_and_says_it(monkeypatch: pytest.MonkeyPatch, model: str) -> None:
    monkeypatch.setitem(datasets.DATASETS, "rhyme", Rhyme())
    size = ["model.filters=16", "model.levels=2"] if model == "tcn" else ["model.units=16"]
    small = ["train.epochs=8", "model.embedding=4", "model.head_dropout=0.0", "optimizer.learning_rate=0.02"]
    config = load(overrides=["dataset.name=rhyme", f"model.name={model}", "dataset.window=20", *size, *small])
    run_id, result = train_one(config, Console(file=io.StringIO()))
    assert result.validation is not None
    assert result.test is not None
    assert result.test.loss < 0.1
    # Evaluated by the model that carries its states, saved as the one that does not.
    assert not any(getattr(layer, "stateful", False) for layer in result.model.layers)
    [run] = [run for run in tracking.runs() if run.run_id == run_id]
    [text] = Path(run.artifacts.removeprefix("file://")).rglob("sample.txt")
    assert "abcdefabcdefabcdef" in text.read_text()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["dataset.horizon=3"], "'dataset.horizon' is for data of your own"),
        (["dataset.window=3"], "'dataset.window' is for language models"),
        (["dataset.name=adding_problem", "dataset.class_weights=true"], "weighs classes; a regression has none"),
        (["dataset.name=copy_memory", "model.name=fcn"], "one answer for a sequence"),
        (["dataset.name=tiny_shakespeare", 'dataset.augment=["scale(0.1)"]'], "text has none"),
        (["dataset.name=tiny_shakespeare", "dataset.max_length=9"], "a language model reads all of the text"),
        (["dataset.name=tiny_shakespeare", "model.bidirectional=true"], "see the token to predict"),
        (['dataset.augment=["jiter(0.1)"]'], "did you mean 'jitter'"),
        (["model.embedding=0"], "'model.embedding': input should be greater than or equal to 1"),
    ],
)
def test_what_does_not_go_together_is_refused_before_any_data_is_read(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace("(", r"\(")):
        check_model(load(overrides=overrides))
