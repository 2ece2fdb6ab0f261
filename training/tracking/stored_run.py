"""A run as the store has it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from training.run.metrics import plain_name


@dataclass(frozen=True)
class StoredRun:
    """One run as the store has it.

    Attributes:
        run_id: MLflow's id.
        name: MLflow's name for it.
        status: "RUNNING", "FINISHED", "FAILED" or "KILLED".
        started: When it began, seconds since 1970.
        params: The configuration, flat, as text.
        metrics: The last value of every metric, by its name in this project.
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

    @classmethod
    def of(
        cls,
        run_id: str,
        name: str,
        status: str,
        started: int,
        params: Mapping[str, Any],
        metrics: Mapping[str, float],
        tags: Mapping[str, Any],
        artifacts: str,
        experiment_id: object,
    ) -> "StoredRun":
        """A run from what the store has: `started` in milliseconds, metrics under the names of the store."""
        return cls(
            run_id=run_id,
            name=name,
            status=status,
            started=started / 1000,
            params={key: str(value) for key, value in params.items()},
            metrics={plain_name(key): value for key, value in metrics.items()},
            tags={key: str(value) for key, value in tags.items()},
            artifacts=artifacts,
            experiment_id=str(experiment_id),
        )
