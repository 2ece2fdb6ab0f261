"""Made-up rows of a study."""

import math

import numpy as np

from training.study.results import Row

DIVERGED = (
    "diverged: training loss reached {loss:.4g} in epoch {epoch} (guessing costs 2.20). Try optimizer.clipnorm=1; "
    "first non-finite value: inf in cell_state of lstm_{layer}"
)


def row(condition="tanh", dataset="vowels", seed=0, score=0.9, **changes):
    """A run that converged to `score` on both splits: an accuracy, or, where the dataset is "sums", an error."""
    numbers = dataset.startswith("sums")
    metric = "mean_absolute_error" if numbers else "accuracy"
    metrics = {}
    for part in ("best_validation", "test"):
        metrics |= {f"{part}/{metric}": score, f"{part}/loss": 0.25}
        if numbers:
            metrics[f"{part}/root_mean_squared_error"] = 1.0  # so the targets' standard deviation is 2
    values = {
        "study": "made_up",
        "condition": condition,
        "dataset": dataset,
        "seed": seed,
        "run_id": f"{condition}-{dataset}-{seed}",
        "outcome": "converged",
        "reason": "",
        "metrics": metrics,
        "history": [{f"train/{metric}": score, f"validation/{metric}": score}],
        "epochs": 1,
        "seconds": 2.0,
        "machine": "Linux x86_64, some processor",
        "threads": 1,
        "config": {"seed": seed, "model.activation": condition, "model.units": 8, "dataset.name": dataset},
        "environment": {"git_commit": "abc", "git_dirty": "false", "version.keras": "3.15", "python": "3.11"},
        "guessing": 1.0 if numbers else math.log(10),
    }
    return Row(**(values | changes))


def dead(condition="relu", dataset="vowels", seed=0, outcome="diverged", **changes):
    """A run that died in its second epoch."""
    metric = "mean_absolute_error" if dataset.startswith("sums") else "accuracy"
    reason = DIVERGED.format(loss=math.nan, epoch=2, layer=seed) if outcome == "diverged" else "killed by signal 9"
    history = [{f"validation/{metric}": 0.5}, {f"validation/{metric}": math.nan}]
    values = {"outcome": outcome, "reason": reason, "metrics": {}, "history": history, "epochs": 2} | changes
    return row(condition, dataset, seed, **values)


def study(conditions, datasets, seeds, death=0.0):
    """Every run of a study whose conditions are the better the earlier they come; a share `death` of runs dies."""
    random = np.random.default_rng(0)
    rows = []
    for dataset in datasets:
        ease = random.uniform(0.5, 3)
        for place, condition in enumerate(conditions):
            for seed in range(seeds):
                numbers = dataset.startswith("sums")
                skill = float(np.clip(0.95 - 0.02 * place * ease + 0.015 * random.normal(), 0.2, 0.999))
                score = 1.2 * (1 - skill) if numbers else skill
                metric = "mean_absolute_error" if numbers else "accuracy"
                steps = np.arange(1, int(random.integers(20, 40)))
                curve = (
                    score
                    + (2 if numbers else -0.8) * np.exp(-steps / (4 + place / 2))
                    + 0.01 * random.normal(size=len(steps))
                )
                history = [
                    {f"train/{metric}": value, f"validation/{metric}": value} for value in np.abs(curve).tolist()
                ]
                if random.uniform() < death * place / len(conditions):
                    outcome = "failed" if random.uniform() < 0.1 else "diverged"
                    end = int(random.integers(1, len(history)))
                    reason = DIVERGED.format(loss=random.choice([math.nan, 1e4]), epoch=end, layer=1)
                    reason = reason if outcome == "diverged" else "the worker was killed by signal 9"
                    rows.append(
                        dead(condition, dataset, seed, outcome, history=history[:end], epochs=end, reason=reason)
                    )
                else:
                    rows.append(row(condition, dataset, seed, score, history=history, epochs=len(history)))
    return rows
