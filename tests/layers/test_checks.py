"""Numbers of NumPy are numbers wherever an argument is checked, and are kept as Python's."""

import json

import keras
import numpy as np
import pytest

from zoo import layers
from zoo.activations import bind
from zoo.diagnostics import Health
from zoo.initializers import ChronoBias, IdentityRecurrent
from zoo.kernels import native

WHOLE, HALF = np.int64(3), np.float32(0.5)
MADE = {
    "LSTM": lambda: layers.LSTM(WHOLE, cell_clip=np.float32(3), dropout=HALF, recurrent_dropout=np.float64(0.5)),
    "LSTMCell": lambda: layers.LSTMCell(np.uint8(3), cell_clip=np.int32(3), dropout=np.float16(0.5)),
    "LayerNormLSTMCell": lambda: layers.LayerNormLSTMCell(WHOLE, epsilon=1, dropout=HALF),
    "ProjectionLSTMCell": lambda: layers.ProjectionLSTMCell(WHOLE, np.int8(2), recurrent_dropout=HALF),
    "BatchNormLSTM": lambda: layers.BatchNormLSTM(WHOLE, max_steps=WHOLE, momentum=HALF, epsilon=np.float32(1e-3)),
    "BatchNormLSTM, whole epsilon": lambda: layers.BatchNormLSTM(3, max_steps=3, epsilon=np.int64(1)),
    "ZoneoutCell": lambda: layers.ZoneoutCell(layers.LSTMCell(3), np.int64(0), HALF),
    "ChronoBias": lambda: ChronoBias(np.int64(20)),
    "IdentityRecurrent": lambda: IdentityRecurrent(HALF),
    "LeakyReLU": lambda: layers.LeakyReLU(HALF),
    "PReLU": lambda: layers.PReLU(HALF, [np.int64(1)]),
    "RReLU": lambda: layers.RReLU(np.int64(0), HALF),
    "ThresholdedReLU": lambda: layers.ThresholdedReLU(HALF),
    "PenalizedTanh": lambda: layers.PenalizedTanh(HALF),
    "FixedLength": lambda: layers.FixedLength(WHOLE),
}


@pytest.mark.parametrize("make", MADE.values(), ids=MADE)
def test_numbers_of_numpy_are_taken_and_saved_as_pythons(make):
    made = make()
    config = keras.saving.serialize_keras_object(made)
    assert json.loads(json.dumps(config)) == config
    again = keras.saving.deserialize_keras_object(config)
    assert again.get_config() == made.get_config()


def test_so_where_there_is_no_configuration():
    assert bind("leaky_relu", HALF) == bind("leaky_relu", 0.5)
    assert Health(np.zeros((1, 2, 3)), every=WHOLE).every == 3
    native.set_threads(WHOLE)
    native.set_threads(None)


@pytest.mark.parametrize("wrong", [True, "3", None, np.nan, [1]])
def test_what_is_no_number_is_not(wrong):
    for make in (
        lambda: layers.LayerNormLSTMCell(3, epsilon=wrong),
        lambda: layers.BatchNormLSTM(3, max_steps=wrong),
        lambda: layers.LSTM(wrong),
        lambda: layers.LSTM(3, dropout=wrong),
        lambda: layers.LeakyReLU(wrong),
        lambda: ChronoBias(wrong),
    ):
        with pytest.raises(ValueError, match=r"(?s)`\w+` (must be|is) .*received"):
            make()
