"""Weights, statistics and one step of `BatchNormLSTM`."""

import functools
from typing import Any, ClassVar

import keras
from keras import ops

from zoo.checks import positive_integer, positive_number, share
from zoo.layers._arguments import Checks
from zoo.layers._gated_cell import GatedCell, product
from zoo.types import Gates, Tensor

Moments = Any  # mean and variance, a list or tuple of two tensors


def masked_moments(x: Tensor, keep: Tensor, axis: int) -> list[Tensor]:
    """Mean and biased variance of `x` along `axis`, in float32 at least, where `keep` is true; 0 where it never is.

    Example:
    >>> x, keep = ops.convert_to_tensor([[1.0], [3.0], [9.0]]), ops.convert_to_tensor([[True], [True], [False]])
    >>> [float(moment[0]) for moment in masked_moments(x, keep, axis=0)]
    [2.0, 1.0]
    """
    x = ops.cast(x, keras.backend.result_type(x.dtype, "float32"))
    count = ops.maximum(ops.sum(ops.cast(keep, x.dtype), axis=axis, keepdims=True), 1)
    mean = ops.sum(ops.where(keep, x, ops.zeros_like(x)), axis=axis, keepdims=True) / count
    centred = ops.where(keep, x - mean, ops.zeros_like(x))
    variance = ops.sum(centred * centred, axis=axis, keepdims=True) / count
    return [ops.squeeze(mean, axis), ops.squeeze(variance, axis)]


class BatchNormCell(GatedCell):
    """The cell of `BatchNormLSTM`; not for `keras.layers.RNN`, which does not tell a cell the number of its step.

    Weights: `kernel`, `recurrent_kernel`, `bias` as in `zoo.layers.LSTMCell`; `input_gamma`, `recurrent_gamma`
    (4 * units), `cell_gamma`, `cell_beta` (units). Not trained: a moving mean and variance for each gamma,
    (max_steps, width), and `steps_seen`, the largest number of steps in any batch.

    Example:
    >>> cell = BatchNormCell(4, max_steps=10, momentum=0.9, epsilon=1e-3, gamma_initializer="ones")
    >>> cell.build((None, 3))
    >>> sum(int(keras.ops.size(weight)) for weight in cell.trainable_weights)
    168
    """

    argument_checks: ClassVar[Checks] = {
        **GatedCell.argument_checks,
        "max_steps": positive_integer,
        "momentum": functools.partial(share, meaning="the share of the moving averages that a batch leaves"),
        "epsilon": functools.partial(positive_number, example="1e-3"),
    }
    fixed = GatedCell.fixed | {"max_steps", "gamma_initializer"}

    def __init__(
        self,
        units: int,
        activation: Any = "tanh",
        recurrent_activation: Any = "sigmoid",
        *,
        max_steps: int,
        momentum: float,
        epsilon: float,
        gamma_initializer: Any,
        **kwargs: Any,
    ) -> None:
        super().__init__(units, activation, recurrent_activation, **kwargs)
        self.max_steps, self.momentum, self.epsilon = max_steps, momentum, epsilon
        self.gamma_initializer = keras.initializers.get(gamma_initializer)
        self.widths = {"input": 4 * self.units, "recurrent": 4 * self.units, "cell": self.units}

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        super().build(input_shape)
        self.gamma, self.moving_mean, self.moving_variance = {}, {}, {}
        for name, width in self.widths.items():
            self.gamma[name] = self.add_weight(shape=(width,), name=f"{name}_gamma", initializer=self.gamma_initializer)
        self.cell_beta = self.add_weight(shape=(self.units,), name="cell_beta", initializer="zeros")
        for name, width in self.widths.items():
            # Without autocast: in half precision the contribution of a batch would round to nothing.
            options = {"shape": (self.max_steps, width), "trainable": False, "autocast": False}
            self.moving_mean[name] = self.add_weight(name=f"{name}_moving_mean", initializer="zeros", **options)
            self.moving_variance[name] = self.add_weight(name=f"{name}_moving_variance", initializer="ones", **options)
        self.steps_seen = self.add_weight(
            shape=(), name="steps_seen", initializer="zeros", dtype="int32", trainable=False
        )

    normalizes_recurrence = True
    counts_steps = True

    def columns_of(self, weight: Any) -> tuple[str, ...]:
        tables = (self.gamma, self.moving_mean, self.moving_variance)
        of_gates = any(weight is table[name] for table in tables for name in ("input", "recurrent"))
        return self.kernel_gates if of_gates else super().columns_of(weight)

    def rows_are_steps(self, weight: Any) -> bool:
        tables = (self.moving_mean, self.moving_variance)
        return any(weight is average for table in tables for average in table.values())

    # === Statistics ===

    def moving(self, name: str, step: Tensor) -> list[Tensor]:
        """The moving mean and variance at the given steps, int32 of any shape; each is (*shape, width)."""
        index = ops.minimum(step, ops.maximum(self.steps_seen, 1) - 1)
        return [ops.take(self.moving_mean[name], index, axis=0), ops.take(self.moving_variance[name], index, axis=0)]

    def no_moments(self) -> list[Tensor]:
        """Zeros in place of the moments of the recurrence and the cell state before the first step."""
        kind = self.moving_mean["cell"].dtype
        return [ops.zeros((self.widths[name],), dtype=kind) for name in ("recurrent", "cell") for _ in range(2)]

    def move(self, moments: dict[str, Moments], keep: Tensor) -> None:
        """Move the averages towards the moments (steps, width) of a batch, at steps that are valid in any row."""
        reached = self._first(ops.any(keep, axis=1))
        for name, (mean, variance) in moments.items():
            for average, batch in ((self.moving_mean[name], mean), (self.moving_variance[name], variance)):
                old = ops.convert_to_tensor(average)
                new = self.momentum * old + (1 - self.momentum) * self._first(ops.stop_gradient(batch))
                average.assign(ops.where(reached, new, old))
        count = ops.sum(ops.cast(reached, "int32"))
        self.steps_seen.assign(ops.maximum(self.steps_seen, count))

    def _first(self, x: Tensor) -> Tensor:
        """The first `max_steps` rows of (steps, width), zeros where there are fewer."""
        tail = ops.zeros((self.max_steps, x.shape[1]), dtype=x.dtype)
        return ops.concatenate([x, tail], axis=0)[: self.max_steps]

    # === Step ===

    def input_products(self, inputs: Tensor, training: bool) -> Tensor:
        """X @ W of every step, (steps, batch, channels) to (steps, batch, 4 * units), with the inputs' dropout."""
        masks = self.drawn.inputs if training and self.drawn else None  # Keras's RNN layer has made the draws
        return product(inputs, self.kernel, masks, times=_rows_times)

    def normalize_input(self, projected: Tensor, moments: Moments) -> Tensor:
        """Normalise x @ W (..., 4 * units) by moments that broadcast against it, and add the bias."""
        return self.with_bias(self._normalize("input", projected, moments))

    def _normalize(self, name: str, x: Tensor, moments: Moments) -> Tensor:
        mean, variance = moments
        scale = ops.cast(self.gamma[name], mean.dtype) * ops.rsqrt(variance + self.epsilon)
        return ops.cast((ops.cast(x, mean.dtype) - mean) * scale, self.compute_dtype)

    def step(
        self,
        z_x: Tensor,
        states: Any,
        keep: Tensor,
        moments: list[Tensor],
        functions: Gates[Any],
        training: bool = False,
    ) -> tuple[list[Tensor], list[Tensor]]:
        """One step.

        Args:
            z_x: The result of `normalize_input` for this step, (batch, 4 * units).
            states: h and c, each (batch, units).
            keep: Bool (batch, 1); other rows keep their states.
            moments: Mean and variance of the recurrence, then of the cell state, (width,) or (batch, width); empty to
                use those of the batch.
            functions: The five activations.
            training: Whether dropout acts.

        Returns:
            The new h and c, and the four moments used.
        """
        hidden, cell = states
        z_h = self.recurrent_product(hidden, training)
        of_recurrence = moments[:2] or masked_moments(z_h, keep, axis=0)
        z = self.cut(z_x + self._normalize("recurrent", z_h, of_recurrence))
        i, f = functions.input_gate(z["input_gate"]), functions.forget_gate(z["forget_gate"])
        g, o = functions.candidate(z["candidate"]), functions.output_gate(z["output_gate"])
        new_cell = f * cell + i * g
        of_cell = moments[2:] or masked_moments(new_cell, keep, axis=0)
        new_hidden = o * functions.hidden(self._normalize("cell", new_cell, of_cell) + self.cell_beta)
        states = [ops.where(keep, new_hidden, hidden), ops.where(keep, new_cell, cell)]
        return states, [*of_recurrence, *of_cell]

    def step_by_averages(
        self,
        projected: Tensor,
        states: Any,
        keep: Tensor,
        number: Tensor,
        functions: Gates[Any],
        training: bool = False,
    ) -> list[Tensor]:
        """The new h and c by the moving averages, from x @ W and the number of each row's step, int32 (batch,)."""
        z_x = self.normalize_input(projected, self.moving("input", number))
        moments = [*self.moving("recurrent", number), *self.moving("cell", number)]
        return self.step(z_x, states, keep, moments, functions, training)[0]

    def numbered_step(self, inputs: Tensor, states: Any, number: Tensor) -> list[Tensor]:
        """The new h and c of a step at inference, from inputs (batch, channels) and each row's step number (batch,)."""
        keep = ops.ones((ops.shape(inputs)[0], 1), dtype="bool")
        return self.step_by_averages(ops.matmul(inputs, self.kernel), states, keep, number, self.functions())

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "max_steps": self.max_steps,
            "momentum": self.momentum,
            "epsilon": self.epsilon,
            "gamma_initializer": keras.initializers.serialize(self.gamma_initializer),
        }


def _rows_times(x: Tensor, kernel: Tensor) -> Tensor:
    """The product of (steps, batch, channels) and a matrix."""
    rows = ops.reshape(x, (-1, x.shape[-1]))  # a product of rank 3 would export an operation more
    return ops.reshape(ops.matmul(rows, kernel), (*ops.shape(x)[:2], kernel.shape[-1]))
