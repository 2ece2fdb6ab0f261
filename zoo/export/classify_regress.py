"""The signatures of TensorFlow Serving's Classify and Regress, which take serialised `tf.Example`s."""

from collections.abc import Callable

from zoo.export.contract import Contract
from zoo.types import Tensor

Answer = Callable[..., dict[str, Tensor]]

CLASSIFY, REGRESS = "classify", "regress"


def refuses_classify(contract: Contract) -> str | None:
    """The reason why the model has no `classify`, or `None`."""
    if not contract.labelled:
        return f"a {contract.kind} answers with numbers"
    if contract.each_step:
        return f"a {contract.kind} answers at every step, and Classify takes one answer a sequence"
    return None


def refuses_regress(contract: Contract) -> str | None:
    """The reason why the model has no `regress`, or `None`."""
    if contract.labelled:
        return f"a {contract.kind} answers with classes"
    numbers = contract.horizon * len(contract.names)
    if numbers != 1:
        return f"this {contract.kind} answers with {numbers} numbers, and Regress takes one"
    return None


def classify(contract: Contract, answer: Answer) -> Answer:
    """The signature from serialised examples (batch,) to `classes`, string, and `scores`, float32 (batch, classes)."""

    def signature(inputs: Tensor) -> dict[str, Tensor]:
        import tensorflow as tf

        scores = answer(*_parsed(contract, inputs))["probabilities"]
        return {"classes": tf.tile([list(contract.names)], [tf.shape(scores)[0], 1]), "scores": scores}

    return signature


def regress(contract: Contract, answer: Answer) -> Answer:
    """The signature from serialised examples (batch,) to `outputs`, float32 (batch,)."""

    def signature(inputs: Tensor) -> dict[str, Tensor]:
        import tensorflow as tf

        return {"outputs": tf.reshape(answer(*_parsed(contract, inputs))["predictions"], [-1])}

    return signature


def _parsed(contract: Contract, inputs: Tensor) -> tuple[Tensor, ...]:
    """Text (batch,), or features (batch, steps, channels) and lengths, 0 where the values are not whole steps."""
    import tensorflow as tf

    inputs = tf.ensure_shape(inputs, (None,))
    if contract.text:
        return (tf.io.parse_example(inputs, {"text": tf.io.FixedLenFeature((), tf.string, "")})["text"],)
    rows = tf.io.parse_example(inputs, {"features": tf.io.RaggedFeature(tf.float32)})["features"]
    values = tf.cast(rows.row_lengths(), tf.int32)
    whole = tf.equal(tf.math.floormod(values, contract.channels), 0)
    steps = tf.maximum(tf.reduce_max(tf.math.floordiv(values + contract.channels - 1, contract.channels)), 1)
    dense = rows.to_tensor(0.0, shape=tf.stack([tf.shape(values)[0], steps * contract.channels]))
    features = tf.reshape(dense, tf.stack([tf.shape(values)[0], steps, contract.channels]))
    return features, tf.where(whole, tf.math.floordiv(values, contract.channels), 0)
