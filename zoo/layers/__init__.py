"""Keras layers for sequences."""

import functools
from collections.abc import Callable

import keras

from zoo.layers.activation_layers import (
    LeakyReLU as LeakyReLU,
    PenalizedTanh as PenalizedTanh,
    PReLU as PReLU,
    RReLU as RReLU,
    ThresholdedReLU as ThresholdedReLU,
)
from zoo.layers.batch_norm_lstm import BatchNormLSTM as BatchNormLSTM
from zoo.layers.coupled_lstm import CoupledLSTMCell as CoupledLSTMCell
from zoo.layers.layer_norm_lstm import LayerNormLSTMCell as LayerNormLSTMCell
from zoo.layers.lstm import LSTM as LSTM
from zoo.layers.lstm_cell import LSTMCell as LSTMCell
from zoo.layers.masking import (
    FixedLength as FixedLength,
    LastStep as LastStep,
    SequenceMask as SequenceMask,
    ZeroPadding as ZeroPadding,
)
from zoo.layers.peephole_lstm import PeepholeLSTMCell as PeepholeLSTMCell
from zoo.layers.projection_lstm import ProjectionLSTMCell as ProjectionLSTMCell
from zoo.layers.variant_lstm import VARIANTS, VariantLSTMCell as VariantLSTMCell
from zoo.layers.zoneout import ZoneoutCell as ZoneoutCell

__all__ = [
    "CELLS",
    "LSTM",
    "BatchNormLSTM",
    "CoupledLSTMCell",
    "FixedLength",
    "LSTMCell",
    "LastStep",
    "LayerNormLSTMCell",
    "LeakyReLU",
    "PReLU",
    "PeepholeLSTMCell",
    "PenalizedTanh",
    "ProjectionLSTMCell",
    "RReLU",
    "SequenceMask",
    "ThresholdedReLU",
    "VariantLSTMCell",
    "ZeroPadding",
    "ZoneoutCell",
]

# The LSTM and its family, by the names that `zoo.models` takes: what makes a cell, or a whole layer where a cell alone
# would not do. A new cell is a line here.
CELLS: dict[str, Callable[..., keras.layers.Layer]] = {
    "lstm": LSTM,
    "layer_norm": LayerNormLSTMCell,
    "batch_norm": functools.partial(BatchNormLSTM, max_steps=100, momentum=0.9),
    "peephole": PeepholeLSTMCell,
    "coupled": CoupledLSTMCell,
    "projection": ProjectionLSTMCell,
    **{name.lower(): functools.partial(VariantLSTMCell, name) for name in VARIANTS},
}
