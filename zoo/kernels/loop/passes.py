"""The forward and the backward pass of the loop engine, as functions of flat tuples of tensors.

A custom gradient needs functions of this form. `recurrence.py` has the equations and the loops over the steps.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
from keras import ops

from zoo.kernels.contract import Options
from zoo.kernels.loop.products import kernel_gradient, product, product_back
from zoo.kernels.loop.recurrence import HALF, Fused, Gate, Plain, Recurrence
from zoo.types import Tensor, Tensors


@dataclass(frozen=True)
class Passes:
    """The two passes as functions of flat tuples of tensors, without those that are absent.

    Attributes:
        options: The options of the call.
        present: Whether there is each of z (t, b, 4 n), recurrent_kernel, h, c, mask (t, b, 1), factors of h (4, b, n),
            and the five slopes, learned (n,) or random (b, n).
        dtype: The type of all tensors but the mask.
        unrolled: Whether TensorFlow's graph has no loop operation; see `zoo.kernels.loop.scan.scan`.
    """

    options: Options
    present: tuple[bool, ...]
    dtype: str
    unrolled: bool = False

    def forward(self, *tensors: Tensor) -> tuple[Tensors, Tensors]:
        """The outputs and the last c; for the backward pass, all tensors but z, and what the steps kept."""
        (hidden, cell), kept = self._run(tensors, keep=True)
        outputs = kept[-1] if self.options.return_sequences else hidden
        # z itself is not kept: the steps keep it with h U added.
        return (outputs, cell), (*tensors[1:], *kept)

    def infer(self, *tensors: Tensor) -> Tensors:
        """The outputs and the last c."""
        (hidden, cell), kept = self._run(tensors, keep=False)
        return (kept[-1] if self.options.return_sequences else hidden), cell

    def backward(self, kept: Tensors, upstream: Tensors) -> Tensors:
        """The gradient of every tensor that is present, from what `forward` kept and the gradients of its outputs."""
        _, recurrent_kernel, h, c, mask, factors, *slopes = self._unpack((None, *kept))
        recurrence = self._recurrence(slopes)
        *kept_by_step, hidden = kept[sum(self.present) - 1 :]
        records = recurrence.records(kept_by_step, c, mask)
        times_back = product_back(recurrent_kernel, factors)
        (d_h, d_c), (d_z, *d_states) = recurrence.run_back(times_back, records, upstream)
        # dU = sum of h_{t-1}^T dz_t, one product after the loop.
        d_kernel = kernel_gradient(ops.concatenate([h[None], hidden[:-1]]), d_z, factors)
        d_slopes = recurrence.slope_gradients(records, *d_states) if d_states else [None] * 5
        d_h, d_c = recurrence.narrow(d_h), recurrence.narrow(d_c)
        gradients = (d_z, d_kernel, d_h, d_c, None, None, *d_slopes)
        return tuple(gradient for gradient, present in zip(gradients, self.present, strict=True) if present)

    def _run(self, tensors: Tensors, keep: bool) -> tuple[Tensors, Tensors]:
        z, recurrent_kernel, h, c, mask, factors, *slopes = self._unpack(tensors)
        return self._recurrence(slopes).run(product(recurrent_kernel, factors), z, h, c, mask, keep)

    def _unpack(self, tensors: Tensors) -> list[Any]:
        remaining = iter(tensors)
        return [next(remaining) if present else None for present in self.present]

    def _recurrence(self, slopes: Sequence[Tensor | None]) -> Recurrence:
        # JAX always compiles the loop; on the other backends each operation of a step has a cost.
        kind = Fused if keras.backend.backend() == "jax" else Plain
        # Activations are computed in float32 where the tensors are in half precision.
        precise = (slope if slope is None or self.dtype not in HALF else ops.cast(slope, "float32") for slope in slopes)
        gates = tuple(map(Gate, self.options.activations, precise))
        return kind(self.options, gates, self.dtype, self.unrolled)
