"""Keras layers for sequences."""

from zoo.layers.lstm import LSTM as LSTM
from zoo.layers.lstm_cell import LSTMCell as LSTMCell
from zoo.layers.masking import (
    FixedLength as FixedLength,
    LastStep as LastStep,
    SequenceMask as SequenceMask,
    ZeroPadding as ZeroPadding,
)

__all__ = ["LSTM", "FixedLength", "LSTMCell", "LastStep", "SequenceMask", "ZeroPadding"]
