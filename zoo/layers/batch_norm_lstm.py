"""The LSTM with recurrent batch normalisation."""

from typing import Any

import keras
from keras import ops

from zoo.kernels.masking import masked_outputs, restore, valid_first, without_masked
from zoo.layers._batch_norm_cell import BatchNormCell, masked_moments
from zoo.layers._cell_layer import CellLayer
from zoo.types import Tensor

_OF_RNN = (
    *("return_sequences", "return_state", "go_backwards", "stateful", "zero_output_for_mask"),
    *("activity_regularizer", "name", "trainable"),
)


@keras.saving.register_keras_serializable("sequence_zoo")
class BatchNormLSTM(CellLayer):
    """LSTM layer with batch normalisation of the input's part, the recurrence's part and the cell state.

        z = BN_t(x_t @ W; gamma_x) + BN_t(h @ U; gamma_h) + b
        i, f, g, o = the activations of the four blocks of z
        c = f * c + i * g
        h = o * hidden_activation(BN_t(c; gamma_c) + beta_c)

        BN_t(a; gamma) = gamma * (a - mean_t(a)) / sqrt(var_t(a) + epsilon)

    In training mean_t and var_t are those of the batch at step t. At inference they are moving averages, one for each
    of the first `max_steps` steps; later steps, and steps that training never reached, use the last ones.
    Each moves once a batch: `moving = momentum * moving + (1 - momentum) * batch`, with the biased variance.

    t counts the valid steps of a row, so masks on the right, on the left and with holes give the same result; masked
    steps do not enter the statistics. A frozen layer (`trainable = False`) uses its moving averages, as Keras's batch
    normalisation does. With dropout, the statistics and so the moving averages are those of the masked values.

    This is a layer and not a cell because only TensorFlow could move averages inside Keras's loop, and a cell does not
    know t; stack it as layers.

    Args:
        units: Positive int, the width of `h` and `c`.
        activation: What `candidate_activation` and `hidden_activation` inherit. Default "tanh".
        recurrent_activation: What the three gates inherit. Default "sigmoid".
        max_steps: Positive int, the number of steps with separate statistics: the length of the training sequences,
            or the step from which the statistics no longer change.
        momentum: Momentum of the moving averages, in [0, 1). Lower it where training has few batches.
        epsilon: Positive number, added to the variance.
        gamma_initializer: Initializer for the three gammas. Default the constant 0.1: at 1 the tanh saturates and
            gradients vanish (section 4 of the paper).
        **kwargs: Arguments of `zoo.layers.LSTMCell` except `cell_clip` and `implementation`, and those of
            `keras.layers.RNN` except `unroll`.

    Call arguments:
        sequences: (batch, steps, channels).
        initial_state: `[h, c]`, each (batch, units), or (1, units) for every row the same; zeros by default.
        mask: Bool (batch, steps); where it is false the states carry over from the step before.
        training: Bool.

    Returns:
        As `keras.layers.LSTM`.

    Raises:
        ValueError: An argument is not valid.
        AttributeError: An argument that the weights are made from, such as `units`, is set again.

    Example:
    >>> import numpy as np
    >>> layer = BatchNormLSTM(4, max_steps=10)
    >>> tuple(layer(np.ones((2, 5, 3), "float32"), training=True).shape), int(layer.cell.steps_seen)
    ((2, 4), 5)

    References:
        Cooijmans, Ballas, Laurent, Gulcehre and Courville (2017), "Recurrent Batch Normalization", eqs. 6 to 8,
        https://arxiv.org/abs/1603.09025
    """

    cell_class = BatchNormCell
    fixed = frozenset({"unroll"})  # its loop is its own

    def __init__(
        self,
        units: int,
        activation: Any = "tanh",
        recurrent_activation: Any = "sigmoid",
        *,
        max_steps: int,
        momentum: float = 0.99,
        epsilon: float = 1e-3,
        gamma_initializer: Any = None,
        **kwargs: Any,
    ) -> None:
        of_layer = {name: kwargs.pop(name) for name in _OF_RNN if name in kwargs}
        dtype = kwargs.pop("dtype", None)
        cell = BatchNormCell(
            units,
            activation,
            recurrent_activation,
            max_steps=max_steps,
            momentum=momentum,
            epsilon=epsilon,
            gamma_initializer=gamma_initializer or keras.initializers.Constant(0.1),
            name="batch_norm_cell",
            dtype=dtype,
            **kwargs,
        )
        super().__init__(cell, dtype=dtype, **of_layer)

    def inner_loop(self, sequences: Tensor, initial_state: Any, mask: Any, training: bool = False) -> Any:
        """Run the steps in place of Keras's loop, whose cell does not know the number of its step."""
        if isinstance(mask, list | tuple):
            mask = mask[0]
        if mask is None:
            mask = ops.ones(ops.shape(sequences)[:2], dtype="bool")
        mask = ops.cast(mask, "bool")
        if self.go_backwards:
            sequences, mask = ops.flip(sequences, axis=1), ops.flip(mask, axis=1)
        loop = self._learn if training and self.trainable else self._apply
        outputs, states = loop(sequences, mask, initial_state, training)
        last = outputs[:, -1]
        if self.zero_output_for_mask:
            outputs = masked_outputs(outputs, mask, True)
        return last, outputs, states

    def _learn(self, sequences: Tensor, mask: Tensor, initial: Any, training: bool) -> tuple[Tensor, list[Tensor]]:
        """Outputs (batch, steps, units) and last states, normalised by the batch, which moves the averages."""
        cell, functions = self.cell, self.cell.functions(training)
        sequences, valid, count = valid_first(sequences, mask)
        keep = ops.swapaxes(valid, 0, 1)[:, :, None]
        projected = cell.input_products(ops.swapaxes(sequences, 0, 1), training)
        of_input = masked_moments(projected, keep, axis=1)
        z_x = cell.normalize_input(projected, [moment[:, None] for moment in of_input])

        def step(carry: Any, x: Tensor) -> Any:
            states, moments = cell.step(x[:, :-1], carry[:2], x[:, -1:] > 0, [], functions, training)
            carry = [*states, *moments]
            return carry, carry

        # On TensorFlow Keras's scan emits only outputs of the carry's shape, so the moments are in the carry. With an
        # unknown number of steps it reads only one input, so the mask is one more column.
        last, every = ops.scan(step, [*initial, *cell.no_moments()], _with_column(z_x, keep))
        cell.move({"input": of_input, "recurrent": every[2:4], "cell": every[4:6]}, keep)
        outputs = restore(ops.swapaxes(every[0], 0, 1), count)
        return masked_outputs(outputs, mask, False, count), list(last[:2])

    def _apply(self, sequences: Tensor, mask: Tensor, initial: Any, training: bool) -> tuple[Tensor, list[Tensor]]:
        """Outputs and last states, normalised by the moving averages."""
        none = ops.zeros((ops.shape(sequences)[0],), dtype="int32")
        outputs, states, _ = self.go_on(sequences, mask, initial, none, training)
        return outputs, states

    def go_on(
        self, sequences: Tensor, mask: Tensor, states: Any, steps: Tensor, training: bool = False
    ) -> tuple[Tensor, list[Tensor], Tensor]:
        """Continue sequences, normalised by the moving averages; every row counts its valid steps.

        Args:
            sequences: (batch, steps, channels).
            mask: Bool (batch, steps).
            states: h and c, each (batch, units).
            steps: Int32 (batch,), the number of valid steps of each row so far.
            training: Whether dropout acts.

        Returns:
            Outputs (batch, steps, units), the last h and c, and the number of valid steps so far.
        """
        cell, functions = self.cell, self.cell.functions(training)
        sequences = without_masked(sequences, mask)
        keep = ops.swapaxes(mask, 0, 1)[:, :, None]
        projected = cell.input_products(ops.swapaxes(sequences, 0, 1), training)

        def step(carry: Any, x: Tensor) -> Any:
            *states, count = carry
            valid = x[:, -1:] > 0
            states = cell.step_by_averages(x[:, :-1], states, valid, count, functions, training)
            carry = [*states, count + ops.cast(valid[:, 0], "int32")]
            return carry, carry

        last, (hidden, _, count) = ops.scan(step, [*states, steps], _with_column(projected, keep))
        outputs = masked_outputs(ops.swapaxes(hidden, 0, 1), mask, False, ops.swapaxes(count, 0, 1))
        return outputs, list(last[:2]), last[2]

    def get_config(self) -> dict[str, Any]:
        return {name: value for name, value in super().get_config().items() if name != "unroll"}


def _with_column(x: Tensor, keep: Tensor) -> Tensor:
    return ops.concatenate([x, ops.cast(keep, x.dtype)], axis=-1)
