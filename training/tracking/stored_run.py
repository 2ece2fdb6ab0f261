"""A run as the store has it."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class StoredRun:
    """One run as the store has it.

    Attributes:
        run_id: MLflow's id.
        name: MLflow's name for it.
        status: "RUNNING", "FINISHED", "FAILED" or "KILLED".
        started: When it began, seconds since 1970.
        params: The configuration, flat, as text.
        metrics: The last value of every metric.
        tags: Tags, MLflow's own included.
        artifacts: Where its files are.
        experiment_id: MLflow's id of the experiment that it belongs to.
    """

    run_id: str
    name: str
    status: str
    started: float
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    artifacts: str
    experiment_id: str
