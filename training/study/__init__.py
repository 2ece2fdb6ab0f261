"""Studies: the same question asked over conditions, datasets and seeds, and answered with intervals."""

from training.study.design import Study

__all__ = ["Study"]
