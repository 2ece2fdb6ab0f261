"""Keras layers for sequences."""

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
from zoo.layers.variant_lstm import VariantLSTMCell as VariantLSTMCell
from zoo.layers.zoneout import ZoneoutCell as ZoneoutCell

__all__ = [
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
