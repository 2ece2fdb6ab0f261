"""Which MLflow experiment runs belong to: by its name, or by its id as `id:3`."""

import os

_BY_ID = "id:"


def default_experiment() -> str:
    """The experiment of runs that name none, as MLflow's own API takes it from the environment.

    `MLFLOW_EXPERIMENT_NAME`, else `MLFLOW_EXPERIMENT_ID` as "id:" and the id, else "sequence-zoo".
    """
    number = os.environ.get("MLFLOW_EXPERIMENT_ID")
    return os.environ.get("MLFLOW_EXPERIMENT_NAME") or (f"{_BY_ID}{number}" if number else "sequence-zoo")


def id_in(experiment: str) -> str | None:
    """The id that `experiment` says, or `None` where it is a name.

    Example:
    >>> id_in("id:3"), id_in("speech")
    ('3', None)
    """
    return experiment.removeprefix(_BY_ID) if experiment.startswith(_BY_ID) else None
