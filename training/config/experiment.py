"""The MLflow experiment that runs belong to, by its name or by its id as `id:3`."""

import os

_BY_ID = "id:"


def default_experiment() -> str:
    """The experiment of runs whose configuration names none.

    The order is that of MLflow's own API: `MLFLOW_EXPERIMENT_NAME`, then `MLFLOW_EXPERIMENT_ID` as "id:" and the id,
    then "sequence-zoo".
    """
    number = os.environ.get("MLFLOW_EXPERIMENT_ID")
    return os.environ.get("MLFLOW_EXPERIMENT_NAME") or (f"{_BY_ID}{number}" if number else "sequence-zoo")


def id_in(experiment: str) -> str | None:
    """The id in `experiment`, or `None` where it is a name.

    Example:
    >>> id_in("id:3"), id_in("speech")
    ('3', None)
    """
    return experiment.removeprefix(_BY_ID) if experiment.startswith(_BY_ID) else None
