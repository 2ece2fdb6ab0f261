"""The metrics of a run: what is measured of a model, and under which names. Imports nothing heavy."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """One figure of how well a model does.

    Attributes:
        name: What follows "train/", "validation/", "best_validation/" and "test/" in the names of its values, and the
            name of Keras's metric.
        is_share: A share of right answers, of which more is better; otherwise an error in the data's units.
    """

    name: str
    is_share: bool = False

    @property
    def title(self) -> str:
        """The name in words."""
        return self.name.replace("_", " ")


ACCURACY = Metric("accuracy", is_share=True)
MEAN_ABSOLUTE_ERROR = Metric("mean_absolute_error")
ROOT_MEAN_SQUARED_ERROR = Metric("root_mean_squared_error")

# Those by which a task is judged come first; a run measures those of its task.
METRICS = {metric.name: metric for metric in (MEAN_ABSOLUTE_ERROR, ACCURACY, ROOT_MEAN_SQUARED_ERROR)}

LOSS = "loss"
_PARTS = (("val_", "validation"), ("", "train"))


def main_metric(names: Iterable[str]) -> Metric:
    """The metric by which runs are judged that measured `names`; accuracy where they measured nothing yet.

    Example:
    >>> main_metric(["test/loss", "test/mean_absolute_error", "test/root_mean_squared_error"]).name
    'mean_absolute_error'
    """
    measured = {name.rpartition("/")[2] for name in names}
    return next((metric for metric in METRICS.values() if metric.name in measured), ACCURACY)


def epoch_metrics(logs: Mapping[str, float]) -> dict[str, float]:
    """Keras's logs of an epoch under the names that this project uses.

    Example:
    >>> epoch_metrics({"loss": 2, "val_loss": 1, "accuracy": 0.5, "lr": 3})
    {'validation/loss': 1.0, 'train/loss': 2.0, 'train/accuracy': 0.5}
    """
    names = {f"{prefix}{metric}": f"{part}/{metric}" for prefix, part in _PARTS for metric in (LOSS, *METRICS)}
    return {name: float(logs[key]) for key, name in names.items() if key in logs}


# === Names in the tracking store ===

# MLflow's pages go by the alphabet: learning curves first, then what happens inside, then the final figures.
_STORED = {"train/": "curves/train/", "validation/": "curves/validation/", "within/": "inside/"}
_FINAL = "result/"


def stored_name(name: str) -> str:
    """The name under which the tracking store has a metric.

    Example:
    >>> stored_name("train/loss"), stored_name("within/lstm_1/dead_hidden"), stored_name("test/loss")
    ('curves/train/loss', 'inside/lstm_1/dead_hidden', 'result/test/loss')
    """
    for plain, stored in _STORED.items():
        if name.startswith(plain):
            return stored + name.removeprefix(plain)
    return _FINAL + name


def plain_name(stored: str) -> str:
    """The name of a metric in this project, from that in the store; runs stored before had the same names in both.

    Example:
    >>> plain_name(stored_name("test/loss")), plain_name("test/loss"), plain_name("system/cpu")
    ('test/loss', 'test/loss', 'system/cpu')
    """
    for plain, prefix in (*_STORED.items(), ("", _FINAL)):
        if stored.startswith(prefix):
            return plain + stored.removeprefix(prefix)
    return stored


def is_plain(stored: str) -> bool:
    """Whether a name in the store is that of a learning curve of before, which was not sorted for MLflow's pages."""
    return stored.startswith(("train/", "validation/"))
