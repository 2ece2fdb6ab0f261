"""What an exported graph is made of: stock operations, texts cut as training cuts them, float32 outside."""

from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf
from exported_forms import CLASSES, KINDS, LENGTHS, NUMBERS, TEXTS, features, load, signature, tokens

from zoo.activations import ACTIVATIONS
from zoo.export import ExportError, export, write
from zoo.export.contract import contract
from zoo.export.operations import ALLOWED, refused_operations
from zoo.export.signatures import Graph, graph
from zoo.export.text import Tokeniser
from zoo.layers import LSTM
from zoo.models import SequenceTask, build
from zoo.models.inputs import sequence_inputs


@pytest.mark.parametrize("kind", ["words", "characters"])
def test_the_graph_cuts_texts_as_training_does(kind):
    task, kept = KINDS[kind]
    model = build("irnn", SequenceTask(**task), units=2)
    form = SimpleNamespace(task=kept, kind=kept.get("kind"))
    tokeniser = Tokeniser(contract(model, kept))
    texts = [*TEXTS, "a b\u00a0c\vd\fe\rf\x1cg\u2003good", "!film!", "[UNK]", "É é E\u0301", "2 2.0 -2", "\U0001f600a"]
    found, lengths = tokeniser(tf.constant(texts))
    for text, row, length, wanted in zip(texts, found.numpy(), lengths.numpy(), tokens(form, texts), strict=True):
        assert row[:length].tolist() == wanted.tolist(), text
        assert not row[length:].any()
    # Bytes that are no UTF-8: one token for what cannot be read, as Python's decoder gives.
    broken = [b"good \xff film", b"\xe2\x98 a", b"ab\xc3"]
    found, lengths = tokeniser(tf.constant(broken))
    for row, length, wanted in zip(
        found.numpy(), lengths.numpy(), tokens(form, [text.decode(errors="replace") for text in broken]), strict=True
    ):
        assert row[:length].tolist() == wanted.tolist()


def test_the_list_holds_nothing_that_a_server_refuses():
    assert not ALLOWED & {"PyFunc", "EagerPyFunc", "XlaCallModule", "CudnnRNN", "CudnnRNNV2", "CudnnRNNV3"}


def test_every_activation_uses_stock_operations_only(tmp_path):
    """All in one graph, five a layer; some such gates diverge, so only written, not checked."""
    gates = ("input_gate", "forget_gate", "candidate", "output_gate", "hidden")
    names = list(ACTIVATIONS)
    names += names[: -len(names) % len(gates)]
    inputs = sequence_inputs(SequenceTask(channels=3, classes=2))
    x = inputs.normalized
    for first in range(0, len(names), len(gates)):
        chosen = {f"{gate}_activation": name for gate, name in zip(gates, names[first:], strict=False)}
        x = LSTM(2, return_sequences=True, **chosen)(x, mask=inputs.mask)
    model = inputs.model(x[:, -1], name="all")
    made = graph(model, contract(model, {"classes": ["a", "b"]}), xla=False)
    write(model, Graph({"serving_padded": made.signatures["serving_padded"]}, {}, []), tmp_path / "written")
    assert refused_operations(tmp_path / "written") == []


def test_a_python_function_in_the_graph_is_refused_by_name(tmp_path):
    @keras.saving.register_keras_serializable("tests")
    class Callback(keras.layers.Layer):
        def call(self, x):
            return tf.ensure_shape(tf.numpy_function(lambda v: v, [x], tf.float32), x.shape)

    model = build("lstm", SequenceTask(**KINDS["classification"][0]), units=2)
    bad = keras.Model(model.input, Callback()(model.output))
    with pytest.raises(ExportError, match="PyFunc"):
        export(bad, {"classes": CLASSES}, tmp_path / "served")
    assert list((tmp_path / "served").iterdir()) == []


def test_layers_of_any_precision_serve_float32(tmp_path):
    inputs = sequence_inputs(SequenceTask(**NUMBERS, classes=4))
    x = keras.layers.Conv1D(4, 3, padding="causal", dtype="mixed_float16", name="convolution")(inputs.normalized)
    x = LSTM(5, return_sequences=True, dtype="float64", name="wide")(x, mask=inputs.mask)
    x = LSTM(5, dtype="mixed_bfloat16", name="narrow")(x, mask=inputs.mask)
    model = inputs.model(keras.layers.Dense(4, dtype="bfloat16")(x), name="mixed")
    result = export(model, {"classes": CLASSES}, tmp_path)
    found = signature(result.path, "serving_padded")(features=features(), lengths=LENGTHS)
    assert found["probabilities"].dtype == np.float32
    assert np.isfinite(found["probabilities"]).all()
    specs = load(str(result.path)).signatures["stream_step"].structured_input_signature[1]
    assert {name: spec.dtype for name, spec in specs.items()} == dict.fromkeys(
        ["features", "convolution_buffer", "wide_hidden", "wide_cell", "narrow_hidden", "narrow_cell"], tf.float32
    )
