"""The metrics of a run and their names; imports nothing heavy."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """One measure of how well a model does.

    Attributes:
        name: What follows "train/", "validation/", "best_validation/" and "test/" in the names of its values, and the
            name of Keras's metric.
        is_share: A share of right answers, of which more is better; otherwise an error in the data's units.
    """

    name: str
    is_share: bool = False

    @property
    def title(self) -> str:
        """The name as words."""
        return self.name.replace("_", " ")


ACCURACY = Metric("accuracy", is_share=True)
MEAN_ABSOLUTE_ERROR = Metric("mean_absolute_error")
ROOT_MEAN_SQUARED_ERROR = Metric("root_mean_squared_error")

# Metrics by which a task is judged come first; a run measures the metrics of its task only.
METRICS = {metric.name: metric for metric in (MEAN_ABSOLUTE_ERROR, ACCURACY, ROOT_MEAN_SQUARED_ERROR)}

LOSS = "loss"
_PARTS = (("val_", "validation"), ("", "train"))


def main_metric(names: Iterable[str]) -> Metric:
    """The metric by which runs with metrics `names` are judged; accuracy where there are none yet.

    Example:
    >>> main_metric(["test/loss", "test/mean_absolute_error", "test/root_mean_squared_error"]).name
    'mean_absolute_error'
    """
    measured = {name.rpartition("/")[2] for name in names}
    return next((metric for metric in METRICS.values() if metric.name in measured), ACCURACY)


def epoch_metrics(logs: Mapping[str, float]) -> dict[str, float]:
    """Rename Keras's logs of an epoch to the names of this project.

    Example:
    >>> epoch_metrics({"loss": 2, "val_loss": 1, "accuracy": 0.5, "lr": 3})
    {'validation/loss': 1.0, 'train/loss': 2.0, 'train/accuracy': 0.5}
    """
    names = {f"{prefix}{metric}": f"{part}/{metric}" for prefix, part in _PARTS for metric in (LOSS, *METRICS)}
    return {name: float(logs[key]) for key, name in names.items() if key in logs}


# === Names in the tracking store ===

# MLflow's pages sort by the alphabet. These prefixes show learning curves first, then diagnostics, then final figures.
_STORED = {"train/": "curves/train/", "validation/": "curves/validation/", "within/": "inside/"}
_FINAL = "result/"


def stored_name(name: str) -> str:
    """The name of a metric in the tracking store.

    Example:
    >>> stored_name("train/loss"), stored_name("within/lstm_1/dead_hidden"), stored_name("test/loss")
    ('curves/train/loss', 'inside/lstm_1/dead_hidden', 'result/test/loss')
    """
    for plain, stored in _STORED.items():
        if name.startswith(plain):
            return stored + name.removeprefix(plain)
    return _FINAL + name


def plain_name(stored: str) -> str:
    """The name of a metric in this project, from its name in the tracking store.

    Runs of earlier versions are stored under the names of this project, and those are returned as they are.

    Example:
    >>> plain_name(stored_name("test/loss")), plain_name("test/loss"), plain_name("system/cpu")
    ('test/loss', 'test/loss', 'system/cpu')
    """
    for plain, prefix in (*_STORED.items(), ("", _FINAL)):
        if stored.startswith(prefix):
            return plain + stored.removeprefix(prefix)
    return stored


def is_plain(stored: str) -> bool:
    """Whether a name in the store is that of a learning curve stored by an earlier version."""
    return stored.startswith(("train/", "validation/"))
