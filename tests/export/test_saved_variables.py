"""A model handed to `tf.saved_model.save` as it is: each runtime reads its variables, or the converter refuses."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from doors import BATCH, CHANNELS, STEPS, inputs
from tiers import few

from zoo.layers import LSTM, BatchNormLSTM, PeepholeLSTMCell

LAYERS = {
    "relu": lambda: LSTM(4, activation="relu"),
    "standard": lambda: LSTM(4),
    "prelu": lambda: LSTM(4, activation="prelu"),
    "Bidirectional": lambda: keras.layers.Bidirectional(LSTM(4, activation="relu")),
    "masked": lambda: keras.Sequential([keras.layers.Masking(), LSTM(4, activation="relu", return_sequences=True)]),
    "masked, standard": lambda: keras.Sequential([keras.layers.Masking(), LSTM(4)]),
    "clipped": lambda: LSTM(4, activation="relu", cell_clip=1.0, go_backwards=True),
    "cell": lambda: keras.layers.RNN(PeepholeLSTMCell(4)),
    "layer of its own": lambda: BatchNormLSTM(4, max_steps=STEPS),
}


def saved(form, folder):
    """A model with layers of Keras around ours, one of them nested deeper, and its answers; saved to `folder`."""
    keras.utils.set_random_seed(0)
    features = keras.Input((STEPS, CHANNELS), batch_size=BATCH)
    first = keras.layers.Dense(CHANNELS, activation="tanh")
    model = keras.Model(features, keras.layers.Dense(2)(LAYERS[form]()(first(features))))
    outer = keras.Sequential([model, keras.layers.Dense(3)])
    outer.build((BATCH, STEPS, CHANNELS))
    for number, weight in enumerate(outer.trainable_weights):
        weight.assign(np.random.default_rng(number).normal(0, 0.5, weight.shape))
    tf.saved_model.save(outer, str(folder))
    return outer(inputs()).numpy()


def in_a_session(folder):
    """What TensorFlow Serving does with a file."""
    with tf.compat.v1.Session(graph=tf.Graph()) as session:
        signature = tf.compat.v1.saved_model.load(session, ["serve"], str(folder)).signature_def["serving_default"]
        [given], [answer] = signature.inputs.values(), signature.outputs.values()
        return session.run(answer.name, {given.name: inputs()})


def in_tflite(folder):
    content = tf.lite.TFLiteConverter.from_saved_model(str(folder)).convert()
    interpreter = tf.lite.Interpreter(model_content=content)
    interpreter.allocate_tensors()
    [given], [answer] = interpreter.get_input_details(), interpreter.get_output_details()
    interpreter.set_tensor(given["index"], inputs())
    interpreter.invoke()
    return interpreter.get_tensor(answer["index"])


def in_python(folder):
    """The answers, and whether each trainable variable has a gradient."""
    loaded = tf.saved_model.load(str(folder))
    served = loaded.signatures["serving_default"]
    with tf.GradientTape() as tape:
        [answer] = served(tf.constant(inputs())).values()
    return answer, [gradient is not None for gradient in tape.gradient(answer, served.trainable_variables)]


@pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated:UserWarning")
@pytest.mark.parametrize("form", few(list(LAYERS), ["relu"]))
def test_every_runtime_reads_the_variables_or_none_does(form, tmp_path):
    expected = saved(form, tmp_path)
    answer, gradients = in_python(tmp_path)
    np.testing.assert_allclose(answer, expected, atol=1e-5)
    assert gradients
    assert all(gradients)
    np.testing.assert_allclose(in_a_session(tmp_path), expected, atol=1e-5)
    if "standard" in form:
        with pytest.raises(Exception, match="BlockLSTM"):  # a SavedModel holds what TensorFlow's runtimes have
            in_tflite(tmp_path)
    else:
        np.testing.assert_allclose(in_tflite(tmp_path), expected, atol=1e-5)
