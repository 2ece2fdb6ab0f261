"""Three activations on japanese_vowels, five seeds each: the table in README.md.

    .venv/bin/python benchmarks/japanese_vowels_variants.py

Trains 15 models (about 4 minutes on 2 cores), every one an MLflow run with the study tag "japanese_vowels_variants",
and writes docs/results/japanese_vowels_variants.{csv,md} and the block between the markers in README.md. Weights are
chosen by validation loss; the test split is read once a run, after that.
"""

import csv
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from rich.console import Console
from scipy import stats

from zoo.quiet import import_keras

ROOT = Path(__file__).parents[1]
STUDY = "japanese_vowels_variants"
ACTIVATIONS = ("tanh", "relu", "leaky_relu(0.1)")
SEEDS = range(5)
CONFIG = "japanese_vowels_lstm"
MARKERS = ("<!-- results: begin -->", "<!-- results: end -->")


def main() -> None:
    import_keras()
    from training.commands import train_one
    from training.config import load
    from training.environment import describe

    rows: list[dict[str, Any]] = []
    for activation in ACTIVATIONS:
        for seed in SEEDS:
            config = load(CONFIG, [f"model.activation={activation}", f"seed={seed}", f"study={STUDY}"])
            run_id, result = train_one(config, Console(stderr=True))
            rows.append(
                {
                    "run_id": run_id,
                    "activation": activation,
                    "seed": seed,
                    "outcome": result.outcome,
                    "validation_loss": result.validation and f"{result.validation.loss:.6f}",
                    "validation_accuracy": result.validation and f"{result.validation.accuracy:.4f}",
                    "test_accuracy": result.test and f"{result.test.accuracy:.4f}",
                    "epochs": len(result.history),
                    "seconds": f"{result.seconds:.1f}",
                }
            )
            print(f"{len(rows)} of {len(ACTIVATIONS) * len(SEEDS)}: {rows[-1]}", flush=True)
    write(rows, describe())


def write(rows: Sequence[dict[str, Any]], environment: dict[str, str]) -> None:
    folder = ROOT / "docs/results"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{STUDY}.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    text = table(rows, environment)
    (folder / f"{STUDY}.md").write_text(f"# japanese_vowels, three activations\n\n{text}")
    readme = (ROOT / "README.md").read_text()
    if all(marker in readme for marker in MARKERS):
        before, _, rest = readme.partition(MARKERS[0])
        _, _, after = rest.partition(MARKERS[1])
        (ROOT / "README.md").write_text(f"{before}{MARKERS[0]}\n{text}{MARKERS[1]}{after}")


def table(rows: Sequence[dict[str, Any]], environment: dict[str, str]) -> str:
    lines = [
        "| activation | mean test accuracy | 95 % interval | lowest seed | diverged | seconds a run |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for activation in ACTIVATIONS:
        mine = [row for row in rows if row["activation"] == activation]
        accuracies = np.array([float(row["test_accuracy"]) for row in mine if row["outcome"] == "finished"])
        seconds = np.mean([float(row["seconds"]) for row in mine])
        figures = "- | - | -"
        if len(accuracies) > 1:
            # Student's t over seeds: the interval of the mean, not of a single run
            half = stats.t.ppf(0.975, len(accuracies) - 1) * accuracies.std(ddof=1) / np.sqrt(len(accuracies))
            figures = f"{accuracies.mean():.4f} | ± {half:.4f} | {accuracies.min():.4f}"
        lines.append(f"| {activation} | {figures} | {len(mine) - len(accuracies)} of {len(mine)} | {seconds:.0f} |")
    versions = ", ".join(f"{name} {environment[f'version.{name}']}" for name in ("keras", "tensorflow", "numpy"))
    commit = environment.get("git_commit", "unknown")[:10]
    lines += [
        "",
        f"Made by `benchmarks/{STUDY}.py` from `training/configs/{CONFIG}.toml`, seeds 0 to 4, at commit {commit}; "
        f"{versions}; Python {environment['python']}; {environment['machine']}, {os.cpu_count()} cores. "
        f"Every run: `docs/results/{STUDY}.csv`.",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
