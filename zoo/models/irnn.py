"""`irnn`: a plain recurrent layer of ReLUs that starts as the identity."""

import keras

from zoo.models.inputs import SequenceTask, head, sequence_inputs


def irnn(
    task: SequenceTask, *, units: int = 100, recurrent_gain: float = 1.0, head_dropout: float = 0.0
) -> keras.Model:
    """A ReLU network without gates whose recurrent matrix starts as the identity.

        h_t = relu(W x_t + U h_(t-1) + b),  U = recurrent_gain * I,  W from a normal of deviation 0.001,  b = 0

    Args:
        task: Channels, classes and input statistics.
        units: Width of the layer.
        recurrent_gain: Scale of the identity; 1 as published, 0.01 for tasks that need no long memory.
        head_dropout: Share of the head's inputs to drop.

    Returns:
        A functional model from `{"features": (batch, steps, channels), "lengths": (batch,)}` to logits
        (batch, classes).

    Raises:
        ValueError: A layer refuses its arguments.

    Example:
    >>> model = irnn(SequenceTask(channels=1, classes=10), units=3, recurrent_gain=0.5)
    >>> model.get_layer("irnn").cell.recurrent_kernel.numpy().tolist()
    [[0.5, 0.0, 0.0], [0.0, 0.5, 0.0], [0.0, 0.0, 0.5]]

    References:
        Le, Jaitly and Hinton (2015), "A Simple Way to Initialize Recurrent Networks of Rectified Linear Units",
        https://arxiv.org/abs/1504.00941.
    """
    # === Layers ===
    recurrent = keras.layers.SimpleRNN(
        units,
        activation="relu",
        kernel_initializer=keras.initializers.RandomNormal(stddev=0.001),
        recurrent_initializer=keras.initializers.Identity(gain=recurrent_gain),
        return_sequences=task.each_step,
        stateful=task.stateful,
        name="irnn",
    )
    # === Functional model ===
    inputs = sequence_inputs(task)
    x = recurrent(inputs.normalized, mask=inputs.mask)
    return inputs.model(head(x, task, head_dropout), name="irnn")
