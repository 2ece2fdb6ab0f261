"""`lstm`: one or more layers of an LSTM or of a cell of its family, optionally bidirectional."""

import keras

from zoo.checks import positive_integer
from zoo.models.cells import recurrent_layer
from zoo.models.inputs import SequenceTask, check_direction, head, sequence_inputs


def lstm(
    task: SequenceTask,
    *,
    cell: str = "lstm",
    units: int = 100,
    layers: int = 1,
    bidirectional: bool = False,
    activation: str = "tanh",
    recurrent_activation: str = "sigmoid",
    input_gate_activation: str | None = None,
    forget_gate_activation: str | None = None,
    candidate_activation: str | None = None,
    output_gate_activation: str | None = None,
    hidden_activation: str | None = None,
    dropout: float = 0.0,
    recurrent_dropout: float = 0.0,
    zoneout_h: float = 0.0,
    zoneout_c: float = 0.0,
    chrono_steps: float | None = None,
    identity_recurrent: float | None = None,
    cell_clip: float | None = None,
    projection: int | None = None,
    max_steps: int | None = None,
    head_dropout: float = 0.3,
    engine: str = "auto",
) -> keras.Model:
    """Stacked LSTM layers, or layers of a cell of the LSTM family, and a dense head.

    Args:
        task: Channels, classes and input statistics.
        cell: A name in `zoo.layers.CELLS`, such as "lstm" or "layer_norm"; docs/family.md lists them.
        units: Width of each layer, or of each direction.
        layers: Number of LSTM layers, one above the other.
        bidirectional: Whether every layer reads forwards and backwards, with concatenated outputs.
        activation: Candidate and hidden activation: a name, or a name with numbers such as "leaky_relu(0.33)".
        recurrent_activation: Activation of the three gates.
        input_gate_activation: Activation of the input gate, or `None` to inherit.
        forget_gate_activation: Activation of the forget gate.
        candidate_activation: Activation of the candidate.
        output_gate_activation: Activation of the output gate.
        hidden_activation: Activation of the cell state before the output gate.
        dropout: Share of each LSTM layer's inputs to drop.
        recurrent_dropout: Share of each LSTM layer's hidden state to drop where it enters the gates.
        zoneout_h: Probability that a unit of the hidden state keeps its value for a step; not for "batch_norm".
        zoneout_c: Probability that a unit of the cell state keeps its value.
        chrono_steps: Longest dependency in steps, for biases from `zoo.initializers.ChronoBias`, in cells with all four
            gates; with `None` the forget gate's bias starts at 1 and the others at 0.
        identity_recurrent: Gain of the identity from which each gate's recurrent kernel starts
            (`zoo.initializers.IdentityRecurrent`), such as 1 or 0.5; `None` starts from an orthogonal matrix. Not for
            "projection".
        cell_clip: Bound for the cell state, for "lstm" only; `None` for none.
        projection: Width of the output, for "projection" only; `None` for half of `units`.
        max_steps: Number of steps with separate statistics, for "batch_norm" only; `None` for 100.
        head_dropout: Share of the head's inputs to drop.
        engine: The engine that runs the recurrence; for "lstm" without zoneout only.

    Returns:
        A functional model from `{"features": (batch, steps, channels), "lengths": (batch,)}` to logits
        (batch, classes).

    Raises:
        ValueError: `layers` is below 1, the cell is unknown or lacks an argument, or a layer refuses its arguments.

    Example:
    >>> model = lstm(SequenceTask(channels=12, classes=9), units=100)
    >>> model.count_params() == 4 * 100 * (12 + 100 + 1) + 100 * 9 + 9
    True
    >>> lstm(SequenceTask(channels=12, classes=9), cell="layernorm")
    Traceback (most recent call last):
    ValueError: unknown cell 'layernorm'; did you mean 'layer_norm'? Valid: batch_norm, ...
    """
    check_direction(task, bidirectional)
    positive_integer("layers", layers)
    # === Layers ===
    stack = []
    for index in range(layers):
        layer = recurrent_layer(
            cell,
            units,
            activation=activation,
            recurrent_activation=recurrent_activation,
            input_gate_activation=input_gate_activation,
            forget_gate_activation=forget_gate_activation,
            candidate_activation=candidate_activation,
            output_gate_activation=output_gate_activation,
            hidden_activation=hidden_activation,
            dropout=dropout,
            recurrent_dropout=recurrent_dropout,
            zoneout_h=zoneout_h,
            zoneout_c=zoneout_c,
            chrono_steps=chrono_steps,
            identity_recurrent=identity_recurrent,
            cell_clip=cell_clip,
            projection=projection,
            max_steps=max_steps,
            return_sequences=task.each_step or index < layers - 1,
            stateful=task.stateful,
            engine=engine,
            name=f"lstm_{index + 1}",
        )
        stack.append(keras.layers.Bidirectional(layer, name=f"bidirectional_{index + 1}") if bidirectional else layer)
    # === Functional model ===
    inputs = sequence_inputs(task)
    x = inputs.normalized
    for layer in stack:
        x = layer(x, mask=inputs.mask)
    return inputs.model(head(x, task, head_dropout), name="lstm")
