"""Builds the functions that a server calls: shape checks, the model, and answers row by row."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from zoo.export import classify_regress
from zoo.export.contract import Contract, Outputs as ModelOutputs
from zoo.export.rules import Chunk, NotStreamable
from zoo.export.streaming import Plan, plan
from zoo.export.text import Tokeniser
from zoo.kernels.target import Place, tracing_for
from zoo.types import Tensor

Outputs = dict[str, Tensor]

_SMALLEST = float(np.finfo(np.float32).tiny)  # a probability of 0 has a finite logit

DEFAULT, PADDED, STREAM, XLA = "serving_default", "serving_padded", "stream_step", "serving_xla"


@dataclass(frozen=True)
class Signature:
    """A function of a SavedModel that a server can call.

    Attributes:
        function: Maps tensors to outputs by name.
        inputs: A `tf.TensorSpec` with a name for each argument.
    """

    function: Callable[..., Outputs]
    inputs: Sequence[Any]


@dataclass(frozen=True)
class Graph:
    """The contents of a SavedModel.

    Attributes:
        signatures: The signatures by name.
        refused: The reason for each signature that this model cannot have.
        resources: Lookup tables, which have to exist as long as the model.
    """

    signatures: Mapping[str, Signature]
    refused: Mapping[str, str]
    resources: Sequence[Any]


def graph(model: keras.Model, contract: Contract, xla: bool) -> Graph:
    """Build the signatures of `model`, and say why it lacks the others."""
    import tensorflow as tf

    batch = tf.TensorSpec((None,), tf.string, name="inputs")
    tokeniser = Tokeniser(contract) if contract.text else None
    answers = _Answers(model, contract, tokeniser)
    signatures, refused = {DEFAULT: Signature(answers.default, [answers.sequences])}, {}
    if contract.text:
        refused[PADDED] = "the rows of a text model are strings, which need no padding"
    else:
        lengths = tf.TensorSpec((None,), tf.int32, name="lengths")
        signatures[PADDED] = Signature(answers.padded, [answers.sequences, lengths])
    try:
        streamed = plan(model)
        signatures[STREAM] = Signature(
            _stream(answers, streamed),
            [
                answers.sequences,
                *(tf.TensorSpec((None, *s), tf.float32, name=name) for name, s in streamed.states.items()),
            ],
        )
    except NotStreamable as error:
        refused[STREAM] = str(error)
    answer = answers.text if contract.text else answers.padded
    for name, refuses, make in (
        (classify_regress.CLASSIFY, classify_regress.refuses_classify, classify_regress.classify),
        (classify_regress.REGRESS, classify_regress.refuses_regress, classify_regress.regress),
    ):
        reason = refuses(contract)
        if reason:
            refused[name] = reason
        else:
            signatures[name] = Signature(make(contract, answer), [batch])
    if xla and contract.text:
        refused[XLA] = "XLA has no strings"
    elif xla:
        signatures[XLA] = Signature(_Answers(model, contract, None, xla=True).default, [answers.sequences])
    return Graph(signatures, refused, [tokeniser.table] if tokeniser else [])


class _Answers:
    """The parts that all signatures share: shape checks, the model, traced once, and the answers."""

    def __init__(self, model: keras.Model, contract: Contract, tokeniser: Tokeniser | None, xla: bool = False) -> None:
        import tensorflow as tf

        self.contract, self.tokeniser = contract, tokeniser
        channels = () if contract.text else (contract.channels,)
        kind = tf.int32 if contract.text else tf.float32

        def forward(features: Tensor, lengths: Tensor) -> Tensor:
            with tracing_for(Place.SAVED_MODEL, compiled=xla):
                answer = model({"features": features, "lengths": lengths}, training=False)
            return tf.cast(answer, tf.float32)

        # Without labels, which are looked up outside, because XLA has no strings.
        self.forward = tf.function(
            forward,
            input_signature=[tf.TensorSpec((None, None, *channels), kind), tf.TensorSpec((None,), tf.int32)],
            autograph=False,
            jit_compile=xla or None,
        )
        self.names = tf.constant(list(contract.names))
        self.sequences = (
            tf.TensorSpec((None,), tf.string, name="text")
            if contract.text
            else tf.TensorSpec((None, None, contract.channels), tf.float32, name="features")
        )

    def default(self, sequences: Tensor) -> Outputs:
        """Answer sequences (batch, steps, channels) whose steps are all valid, or texts (batch,)."""
        import tensorflow as tf

        if self.contract.text:
            return self.text(sequences)
        return self.padded(sequences, tf.fill([tf.shape(sequences)[0]], tf.shape(sequences)[1]))

    def text(self, text: Tensor) -> Outputs:
        features, lengths = self.tokens(text)
        return self.of(self.forward(features, lengths), lengths > 0, lengths)

    def tokens(self, text: Tensor) -> tuple[Tensor, Tensor]:
        if self.tokeniser is None:
            raise TypeError("this model reads numbers")
        return self.tokeniser(text)

    def padded(self, features: Tensor, lengths: Tensor) -> Outputs:
        import tensorflow as tf

        features = self.checked(features, {"lengths": lengths})
        steps = tf.shape(features)[1]
        valid = tf.sequence_mask(lengths, steps)[:, :, tf.newaxis]
        # Padding must not change an answer, even where it holds NaN.
        features = tf.where(valid, features, tf.zeros_like(features))
        finite = tf.reduce_all(tf.math.is_finite(features), axis=(1, 2))
        answered = tf.logical_and(finite, tf.logical_and(lengths >= 1, lengths <= steps))
        return self.of(self.forward(features, lengths), answered, lengths)

    def checked(self, sequences: Tensor, others: Mapping[str, Tensor]) -> Tensor:
        """Return `sequences`, or fail the whole request if its shapes are wrong.

        A server accepts any shape, and without these checks some wrong shapes would broadcast.
        """
        import tensorflow as tf

        sequences = tf.ensure_shape(sequences, self.sequences.shape)
        rows = tf.shape(sequences)[:1]
        checks = [
            tf.debugging.assert_equal(
                tf.shape(other)[:1], rows, message=f"{name} must have one value for each row of {self.sequences.name}"
            )
            for name, other in others.items()
        ]
        if not self.contract.text:
            checks.append(
                tf.debugging.assert_positive(
                    tf.shape(sequences)[1], message="features must have at least one time step"
                )
            )
        with tf.control_dependencies(checks):
            return tf.identity(sequences)

    def of(self, output: Tensor, answered: Tensor, lengths: Tensor) -> Outputs:
        """Turn the model's output into answers.

        Args:
            output: The model's output, float32, in the contract's shape.
            answered: Whether a row is valid and gets an answer, bool (batch,).
            lengths: The number of valid steps of each row, int32 (batch,).
        """
        import tensorflow as tf

        nothing = tf.constant(np.nan, tf.float32)
        if not self.contract.labelled:
            axes = list(range(1, len(output.shape)))
            answered = tf.logical_and(answered, tf.reduce_all(tf.math.is_finite(output), axis=axes))
            return {"predictions": tf.where(tf.reshape(answered, (-1, *(1 for _ in axes))), output, nothing)}
        if self.contract.each_step:
            answered = tf.logical_and(answered[:, tf.newaxis], tf.sequence_mask(lengths, tf.shape(output)[1]))
        answered = tf.logical_and(answered, tf.reduce_all(tf.math.is_finite(output), axis=-1))
        output = tf.where(answered[..., tf.newaxis], output, nothing)
        best = tf.argmax(output, axis=-1)
        return {
            **self.scores(output),
            "class_id": tf.where(answered, best, tf.constant(-1, tf.int64)),
            "label": tf.where(answered, tf.gather(self.names, best), tf.constant("")),
        }

    def scores(self, output: Tensor) -> Outputs:
        """Logits and probabilities, both (..., classes), from the model's output, which is one of them."""
        import tensorflow as tf

        if self.contract.outputs is ModelOutputs.LOGITS:
            return {"logits": output, "probabilities": tf.nn.softmax(output)}
        logits = tf.math.log(tf.maximum(output, _SMALLEST))
        if self.contract.outputs is ModelOutputs.INDEPENDENT:
            logits -= tf.math.log(tf.maximum(1 - output, _SMALLEST))
        return {"logits": logits, "probabilities": output}


def _stream(answers: _Answers, streamed: Plan) -> Callable[..., Outputs]:
    def step(sequences: Tensor, *states: Tensor) -> Outputs:
        import tensorflow as tf

        before = {
            name: tf.ensure_shape(state, (None, *shape))
            for state, (name, shape) in zip(states, streamed.states.items(), strict=True)
        }
        sequences = answers.checked(sequences, before)
        if answers.contract.text:
            features, lengths = answers.tokens(sequences)
            answered, mask = lengths > 0, tf.sequence_mask(lengths, tf.shape(features)[1])
        else:
            answered, mask = tf.reduce_all(tf.math.is_finite(sequences), axis=(1, 2)), None
            # With zeros, a row without an answer cannot raise an error inside the model.
            features = tf.where(answered[:, tf.newaxis, tf.newaxis], sequences, tf.zeros_like(sequences))
            lengths = tf.fill([tf.shape(features)[0]], tf.shape(features)[1])
        for state in before.values():
            answered &= tf.reduce_all(tf.math.is_finite(state), axis=list(range(1, len(state.shape))))
        chunk = Chunk(lengths, mask, before)
        output = tf.cast(streamed.run(features, chunk), tf.float32)
        # A piece without an answer does not count: its sequence keeps its states.
        after = {
            name: tf.where(
                tf.reshape(answered, (-1, *(1 for _ in state.shape[1:]))),
                tf.cast(chunk.after[name], tf.float32),
                state,
            )
            for name, state in before.items()
        }
        return {**answers.of(output, answered, lengths), **after}

    return step
