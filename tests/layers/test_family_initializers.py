"""Initial weights for long memory: values, seeds, saving, and shapes that are refused."""

import keras
import numpy as np
import pytest
from keras import ops

from zoo.initializers import ChronoBias, IdentityRecurrent
from zoo.layers import LSTM, CoupledLSTMCell, LSTMCell, PeepholeLSTMCell

pytestmark = pytest.mark.any_backend


def test_chrono_bias_is_the_logarithm_of_a_uniform_time():
    bias = ops.convert_to_numpy(ChronoBias(101, seed=3)((4 * 2000,)))
    i, f, c, o = np.split(bias, 4)
    np.testing.assert_array_equal(i, -f)
    assert not c.any()
    assert not o.any()
    times = np.exp(f.astype("float64"))
    assert times.min() >= 1 - 1e-6  # float32's logarithm and exponential
    assert times.max() <= 100 + 1e-4
    # Five standard deviations of the mean of 2000 uniform numbers, and of the share below the middle.
    assert abs(times.mean() - 50.5) < 5 * 99 / np.sqrt(12 * 2000)
    assert abs((times < 50.5).mean() - 0.5) < 5 * 0.5 / np.sqrt(2000)


def test_chrono_bias_is_seeded_and_comes_back():
    one, two = ChronoBias(50, seed=1), ChronoBias(50, seed=2)
    again = keras.initializers.get(keras.initializers.serialize(one))
    values = [ops.convert_to_numpy(chosen((16,))) for chosen in (one, one, again, two)]
    np.testing.assert_array_equal(values[0], values[1])
    np.testing.assert_array_equal(values[0], values[2])
    assert (values[0] != values[3])[:8].all()
    assert ChronoBias(50).seed != ChronoBias(50).seed
    assert ChronoBias(50).get_config()["max_steps"] == 50


@pytest.mark.parametrize("layer", [LSTM, keras.layers.LSTM])
def test_both_lstms_take_them_and_save_them(layer, tmp_path):
    chosen = {"bias_initializer": ChronoBias(30, seed=1), "recurrent_initializer": IdentityRecurrent(0.5)}
    model = keras.Sequential([keras.Input((None, 2)), layer(3, unit_forget_bias=False, **chosen)])
    _, recurrent, bias = model.layers[0].get_weights()
    np.testing.assert_array_equal(bias, ops.convert_to_numpy(ChronoBias(30, seed=1)((12,))))
    np.testing.assert_array_equal(recurrent, np.tile(0.5 * np.eye(3), 4))
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras").layers[0]
    assert loaded.bias_initializer.get_config() == {"max_steps": 30, "seed": 1}
    assert loaded.recurrent_initializer.gain == 0.5


def test_an_irnn_keeps_what_it_has_read():
    layer = keras.layers.SimpleRNN(2, "relu", kernel_initializer="ones", recurrent_initializer=IdentityRecurrent())
    np.testing.assert_allclose(ops.convert_to_numpy(layer(np.ones((1, 9, 1), "f"))), 9, atol=1e-5)  # float32 sum


def test_the_type_is_the_one_asked_for():
    for made in (IdentityRecurrent()((2, 2), dtype="float16"), ChronoBias(9)((4,), dtype="float16")):
        assert keras.backend.standardize_dtype(made.dtype) == "float16"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ChronoBias(2), "`max_steps` must be a number of steps greater than 2, received 2"),
        (lambda: ChronoBias("9"), "`max_steps` must be a number of steps greater than 2, received '9'"),
        (lambda: ChronoBias(float("inf")), "`max_steps`"),
        (lambda: ChronoBias(9)((6,)), r"received shape \(6,\).*unit_forget_bias=False"),
        (lambda: ChronoBias(9)((4, 4)), r"received shape \(4, 4\)"),
        # four units: a width at which no piece of the bias looks wrong
        (lambda: LSTM(4, bias_initializer=ChronoBias(9)), "pass unit_forget_bias=False"),
        (lambda: LSTMCell(4, bias_initializer=ChronoBias(9)), "pass unit_forget_bias=False"),
        (lambda: PeepholeLSTMCell(4, bias_initializer=ChronoBias(9)), "pass unit_forget_bias=False"),
        (
            lambda: CoupledLSTMCell(4, bias_initializer=ChronoBias(9), unit_forget_bias=False),
            "fills the biases of input_gate, forget_gate, .* has only input_gate, candidate, output_gate;",
        ),
        (lambda: keras.layers.LSTM(3, bias_initializer=ChronoBias(9)).build((None, 2, 2)), "unit_forget_bias=False"),
        (lambda: IdentityRecurrent(float("nan")), "`gain` must be a finite number, received nan"),
        (lambda: IdentityRecurrent("1"), "`gain` must be a finite number, received '1'"),
        (lambda: IdentityRecurrent()((3, 4)), r"received shape \(3, 4\)"),
        (lambda: IdentityRecurrent()((4,)), r"received shape \(4,\)"),
    ],
)
def test_mistakes_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
