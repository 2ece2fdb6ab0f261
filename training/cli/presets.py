"""Trains the presets of the package again.

    python -m training.cli.presets                      all of them
    python -m training.cli.presets japanese_vowels      one

Each is a named configuration, trained with some seeds; the one with the lowest validation loss is kept, and its test
figures go on the card.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import click

import zoo.presets

FOLDER = Path(zoo.presets.__file__).parent
LARGEST = 1_000_000

# name -> named configuration, seeds
PRESETS: dict[str, tuple[str, range]] = {
    "japanese_vowels": ("japanese_vowels_lstm", range(5)),
    "digits_rows": ("digits_rows_lstm", range(5)),
    "spoken_digit": ("spoken_digit_lstm", range(1)),
}


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(list(PRESETS)))
def main(names: tuple[str, ...]) -> None:
    """Train presets and write them, with their cards, beside `zoo/presets/__init__.py`."""
    for name in names or PRESETS:
        click.echo(f"{name}: {write(name)}")


def write(name: str) -> Path:
    """Train the preset called `name` and write it; gives the path of its card."""
    from rich.console import Console

    from training import tracking
    from training.config import find_dataset, load
    from training.run.environment import describe
    from training.train import train_one

    named, seeds = PRESETS[name]
    configs = {seed: load(named, [f"seed={seed}"]) for seed in seeds}
    trained = {seed: train_one(config, Console(stderr=True)) for seed, config in configs.items()}
    scored = {
        seed: (run_id, result.validation, result.test)
        for seed, (run_id, result) in trained.items()
        if result.validation and result.test
    }
    if not scored:
        raise RuntimeError(f"every run of {named} has diverged, with seeds {', '.join(map(str, seeds))}")
    seed, (run_id, validation, test) = min(scored.items(), key=lambda item: item[1][1].loss)
    model, _ = tracking.load(tracking.find(run_id))
    path = FOLDER / f"{name}.keras"
    model.compile()  # leaves the optimizer's state behind, which is twice as large as the weights
    model.save(path)
    content = path.read_bytes()
    if len(content) > LARGEST:
        raise ValueError(f"{path} has {len(content)} bytes, expected at most {LARGEST}: choose a smaller model")
    spec = find_dataset(configs[seed].dataset).spec
    card: dict[str, Any] = {
        "name": name,
        "sha256": hashlib.sha256(content).hexdigest(),
        "parameters": model.count_params(),
        "dataset": spec.name,
        "features": spec.features,
        "channels": spec.channels,
        "classes": list(spec.classes),
        "data_licence": spec.licence,
        "data_citation": spec.citation,
        "validation": validation.figures,
        "test": test.figures,
        "chosen": f"lowest validation loss of {len(trained)} seeds",
        "command": f"zoo train --config {named} seed={seed}",
        "config": configs[seed].flat(),
        "environment": describe(),
    }
    (FOLDER / f"{name}.json").write_text(json.dumps(card, indent=2) + "\n")
    return FOLDER / f"{name}.json"


if __name__ == "__main__":
    main()
