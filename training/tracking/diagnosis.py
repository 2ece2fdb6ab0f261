"""What `zoo.diagnostics.Health` sees while a run trains, under the names by which it is tracked."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from training.config import Config
from training.run.loop import Data, longest_seen
from training.run.tasks import TASKS
from zoo.diagnostics import Health
from zoo.diagnostics.health import Checkup
from zoo.interception import leaf_layers

# Limits of what diagnostics may cost: a share of the training time or seconds, whichever is more.
_SHARE, _FREE = 0.015, 0.3

# What of a diverged run's findings tells why it died, the most telling first. Gates that are stuck and gradients that
# vanish are what an explosion leaves behind.
_TELLING = ("first non-finite value", "cell state", "is exploding", "weights")


def watch(config: Config, data: Data, model: keras.Model) -> Health:
    """Set up diagnostics on validation rows of the run, with the gradient flow where the model is recurrent."""
    kind = TASKS[data.spec.task]
    inputs, *targets = kind.probe(config, data.validation, longest_seen(config, model))
    recurrent = any(isinstance(layer, keras.layers.RNN) for layer in leaf_layers(model).values())
    # The gradient flow does not know weights, which are 0 where a step has no label.
    labels = targets[0] if recurrent and len(targets) == 1 else None
    return Health(inputs, labels, share=_SHARE, free=_FREE)


def engines(model: keras.Model) -> str | None:
    """Which engine runs each LSTM, said once where it is the same of all; `None` where no layer has a choice.

    Example:
    >>> from zoo.models import SequenceTask, build
    >>> engines(build("lstm", SequenceTask(channels=1, classes=2), layers=2, engine="reference"))
    'reference'
    """
    chosen = {
        path: layer.resolved_engine for path, layer in leaf_layers(model).items() if hasattr(layer, "resolved_engine")
    }
    if len(set(chosen.values())) <= 1:
        return next(iter(chosen.values()), None)
    return ", ".join(f"{path}: {engine}" for path, engine in chosen.items())


def figures(checkup: Checkup) -> dict[str, float]:
    """The figures of an examination, layer by layer, as metrics; what could not be measured is left out."""
    found: dict[str, float] = {}
    for layer in checkup.gates.layers:
        found |= {f"{layer.layer}/{name}": value for name, value in _of_layer(layer).items()}
    if checkup.flow is not None:
        for name, ratio in zip(checkup.flow.layers, checkup.flow.ratios, strict=True):
            found[f"{name}/gradient_first_over_last"] = ratio
    return {f"within/{name}": value for name, value in found.items() if not np.isnan(value)}


def _of_layer(layer: Any) -> Mapping[str, float]:
    gates = {
        f"{gate.gate}_{side}": share
        for gate in layer.gates
        for side, share in (("open", gate.open), ("closed", gate.closed))
        if share is not None
    }
    return gates | {
        "dead_candidate": len(layer.dead_candidate) / layer.units,
        "dead_hidden": len(layer.dead_hidden) / layer.units,
        "cell_peak": layer.cell_peak[0],
        "cell_growth": layer.growth,
    }


def cause(health: Health) -> str | None:
    """Why a run diverged, as far as the diagnostics show: one sentence, or `None`."""
    found = [(f"{finding.subject}: {finding.advice}", str(finding)) for finding in health.findings]
    return next((sentence for sign in _TELLING for about, sentence in found if sign in about), None)
