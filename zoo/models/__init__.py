"""Models: a dict from name to builder, with one family in each file.

A builder takes a `SequenceTask` and further keyword arguments, and returns a functional Keras model from
`{"features": (batch, steps, channels), "lengths": (batch,)}` to logits (batch, classes).

>>> task = SequenceTask(channels=12, classes=9)
>>> build("lstm", task, units=8).output_shape
(None, 9)
>>> build("lstn", task)
Traceback (most recent call last):
ValueError: unknown model 'lstn'; did you mean 'lstm' or 'cnn_lstm'? Valid: ...
"""

from collections.abc import Callable
from typing import Any

import keras

# A trained model is saved with its loss and schedule; importing this package registers them for loading.
from zoo import losses as losses, schedules as schedules
from zoo.layers import FixedLength
from zoo.models.cnn_lstm import cnn_lstm
from zoo.models.cnn_lstm_parallel import cnn_lstm_parallel
from zoo.models.conv_lstm import conv_lstm
from zoo.models.deep_conv_lstm import deep_conv_lstm
from zoo.models.fcn import fcn
from zoo.models.gru import gru
from zoo.models.inputs import SequenceTask as SequenceTask
from zoo.models.irnn import irnn
from zoo.models.lstm import lstm
from zoo.models.lstm_fcn import lstm_fcn, mlstm_fcn
from zoo.models.tcn import tcn
from zoo.suggest import unknown

MODELS: dict[str, Callable[..., keras.Model]] = {
    "lstm": lstm,
    "cnn_lstm": cnn_lstm,
    "cnn_lstm_parallel": cnn_lstm_parallel,
    "conv_lstm": conv_lstm,
    "deep_conv_lstm": deep_conv_lstm,
    "lstm_fcn": lstm_fcn,
    "mlstm_fcn": mlstm_fcn,
    "irnn": irnn,
    "gru": gru,
    "fcn": fcn,
    "tcn": tcn,
}


def builder(name: str) -> Callable[..., keras.Model]:
    """The builder of the model `name`.

    Raises:
        ValueError: The name is unknown; the message suggests the nearest.
    """
    if name not in MODELS:
        raise ValueError(unknown("model", name, MODELS))
    return MODELS[name]


def build(name: str, task: SequenceTask, **arguments: Any) -> keras.Model:
    """Build the model `name` for `task`; `arguments` are those of its builder."""
    return builder(name)(task, **arguments)


def fixed_steps(model: keras.Model) -> int | None:
    """The length of a model's fixed time axis, or `None` if the model takes any length."""
    return next((layer.steps for layer in model.layers if isinstance(layer, FixedLength)), None)
