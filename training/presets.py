"""Train the presets of the package anew.

    python -m training.presets                      all of them
    python -m training.presets japanese_vowels      one

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
    from training.commands import train_one
    from training.config import find_dataset, load
    from training.environment import describe

    config, seeds = PRESETS[name]
    runs = [train_one(load(config, [f"seed={seed}"]), Console(stderr=True)) for seed in seeds]
    place = min(range(len(runs)), key=lambda index: runs[index][1].validation.loss)  # type: ignore[union-attr]
    run_id, result = runs[place]
    model, _ = tracking.load(tracking.find(run_id))
    path = FOLDER / f"{name}.keras"
    model.compile()  # leaves the optimizer's state behind, which is twice as large as the weights
    model.save(path)
    content = path.read_bytes()
    if len(content) > LARGEST:
        raise ValueError(f"{path} has {len(content)} bytes, expected at most {LARGEST}: choose a smaller model")
    spec = find_dataset(load(config).dataset).spec
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
        "validation": _figures(result.validation),
        "test": _figures(result.test),
        "chosen": f"lowest validation loss of {len(runs)} seeds",
        "command": f"zoo train --config {config} seed={seeds[place]}",
        "config": load(config, [f"seed={seeds[place]}"]).flat(),
        "environment": describe(),
    }
    (FOLDER / f"{name}.json").write_text(json.dumps(card, indent=2) + "\n")
    return FOLDER / f"{name}.json"


def _figures(scores: Any) -> dict[str, float]:
    return {"loss": scores.loss, **scores.metrics}


if __name__ == "__main__":
    main()
