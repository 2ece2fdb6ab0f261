"""The CUDA engine's recurrence: brings a layer's tensors into the layout of the kernels, and calls these.

    z = x W + b, for all steps at once, by the backend, which also differentiates it
    hidden, h, c = kernel(z, U, h, c)
    d_z, d_h, d_c = kernel(...)                       d_U = [h, hidden before each step]^T d_z, one product

Units are padded with zero weights to a multiple of 32, the columns of z are in the kernels' order (see src/lstm.cu),
and the first axis is time, so that a step is contiguous in memory.
"""

from dataclasses import dataclass, replace
from typing import Any

import keras
from keras import ops

from zoo.kernels.contract import Operands, Options, Outputs
from zoo.kernels.cuda.launch import run
from zoo.kernels.cuda.variant import ROWS, Variant, kernel, padded
from zoo.kernels.gradient import differentiable
from zoo.kernels.masking import masked_outputs, without_masked
from zoo.types import Gates, Tensor


def lstm(operands: Operands, options: Options) -> Outputs:
    """Run the recurrence of `zoo.kernels.reference.lstm_step` over a sequence; a `zoo.kernels.contract.Run`.

    The operands may be float32, float16 or bfloat16. Inside, everything is float32 except the operands of the recurrent
    product, which are float16, or bfloat16 if the operands are.
    """
    x, units = _float(operands.x), int(operands.recurrent_kernel.shape[0])
    batch, steps = int(x.shape[0]), int(x.shape[1])
    if batch == 0 or steps == 0:
        return _nothing(operands, options, batch, steps, units)
    mask, width = operands.mask, padded(units)
    if options.go_backwards:
        x, mask = ops.flip(x, axis=1), None if mask is None else ops.flip(mask, axis=1)
    x = without_masked(x, mask)
    core = _Core(
        Variant(
            units=width,
            activations=Gates(*(activation.name for activation in options.activations)),
            half="bfloat16" if keras.backend.standardize_dtype(operands.x.dtype) == "bfloat16" else "float16",
            masked=mask is not None,
            clipped=options.cell_clip is not None,
            sequences=options.return_sequences,
            learned=Gates(*(slope is not None for slope in operands.slopes)),
        ),
        steps,
        batch,
        options.cell_clip or 0.0,
    )
    tensors = [
        _projected(x, operands, width),
        _padded(_padded(ops.reshape(_float(operands.recurrent_kernel), (units, 4, units)), width), width, axis=0),
        _padded(_float(operands.h), width),
        _padded(_float(operands.c), width),
        _parameters(options, operands, width),
        *([] if mask is None else [ops.cast(ops.transpose(mask), "uint8")]),
    ]
    *hidden, h, c = differentiable(core.forward, core.backward, core.infer, options.training)(*tensors)
    h, c = h[:, :units], c[:, :units]
    outputs = ops.transpose(hidden[0][:, :, :units], (1, 0, 2)) if hidden else h
    return masked_outputs(outputs, mask, options.zero_output_for_mask), h, c


def _projected(x: Tensor, operands: Operands, width: int) -> Tensor:
    """Z, (steps, batch, 4 * width), in the kernels' order of columns."""
    steps_first = ops.transpose(x, (1, 0, 2))
    kernel = _in_order(_float(operands.kernel), width)
    bias = None if operands.bias is None else _in_order(_float(operands.bias)[None], width)
    if operands.dropout is not None:
        z = _projected_by_gate(steps_first, kernel, operands.dropout)
        return z if bias is None else z + bias
    if bias is not None:
        # The bias is the row of an additional channel that is 1, so that neither it nor its gradient costs a pass over
        # z. A GPU's matrix products are fast with rows of a multiple of 32 bytes.
        channels = int(x.shape[-1])
        missing = -(channels + 1) % 8
        ones = ops.ones((*steps_first.shape[:2], 1), "float32")
        steps_first = ops.pad(ops.concatenate([steps_first, ones], axis=-1), ((0, 0), (0, 0), (0, missing)))
        kernel = ops.pad(ops.concatenate([kernel, bias]), ((0, missing), (0, 0)))
    return ops.matmul(steps_first, kernel)


def _projected_by_gate(steps_first: Tensor, kernel: Tensor, dropout: Tensor) -> Tensor:
    """Z where each gate has its own dropout of x. Every fourth column belongs to a gate."""
    kernels = ops.split(ops.reshape(kernel, (kernel.shape[0], -1, 4)), 4, axis=-1)
    masks = [_float(mask)[:, : steps_first.shape[-1]] for mask in ops.unstack(dropout, 4)]
    parts = [ops.matmul(steps_first * mask, part[:, :, 0]) for mask, part in zip(masks, kernels, strict=True)]
    return ops.reshape(ops.stack(parts, axis=-1), (*steps_first.shape[:2], -1))


def _in_order(weights: Tensor, width: int) -> Tensor:
    """(m, 4 * units) in Keras's order of columns to (m, 4 * width) in the kernels': (warp, r, half, gate)."""
    rows, units = int(weights.shape[0]), int(weights.shape[1]) // 4
    gates = ops.reshape(_padded(ops.reshape(weights, (rows, 4, units)), width), (rows, 4, width // 16, 2, 8))
    return ops.reshape(ops.transpose(gates, (0, 2, 4, 3, 1)), (rows, 4 * width))


def _in_gates(weights: Tensor, width: int) -> Tensor:
    """(m, 4 * width) in the kernels' order of columns to (m, 4, width)."""
    rows = int(weights.shape[0])
    lanes = ops.reshape(weights, (rows, width // 16, 8, 2, 4))
    return ops.reshape(ops.transpose(lanes, (0, 4, 1, 3, 2)), (rows, 4, width))


def _parameters(options: Options, operands: Operands, width: int) -> Tensor:
    """The parameter of each activation, (5, width)."""
    values = [next((value for _, value in a.parameters), 0.0) for a in options.activations]
    if all(slope is None for slope in operands.slopes):
        return ops.transpose(ops.broadcast_to(ops.convert_to_tensor(values, "float32"), (width, 5)))
    # Not padded with zeros, by which celu would divide.
    rows = [
        ops.full((width,), value, "float32") if slope is None else _padded(_float(slope), width, fill=value)
        for value, slope in zip(values, operands.slopes, strict=True)
    ]
    return ops.stack(rows)


def _nothing(operands: Operands, options: Options, batch: int, steps: int, units: int) -> tuple[Tensor, Tensor, Tensor]:
    shape = (batch, steps, units) if options.return_sequences else (batch, units)
    return ops.zeros(shape, operands.x.dtype), operands.h, operands.c


def _float(tensor: Tensor) -> Tensor:
    return ops.cast(tensor, "float32")


def _padded(tensor: Tensor, width: int, axis: int = -1, fill: float = 0.0) -> Tensor:
    missing = width - int(tensor.shape[axis])
    if not missing:
        return tensor
    widths = [(0, 0)] * len(tensor.shape)
    widths[axis] = (0, missing)
    return ops.pad(tensor, widths, constant_values=fill)


def fragments(matrix: Tensor, width: int, half: str) -> Tensor:
    """The first operands of the tensor cores, in the order in which lanes read them.

    Args:
        matrix: (4, width, width): for each gate the matrix whose rows a warp multiplies.
        width: The padded units.
        half: Type of the operands.

    Returns:
        (warp, gate, tile, r, q, upper column, upper row, 2): from each tile of 16 x 16, lane (r, q) has the rows r and
        r + 8, and the columns 2 q, 2 q + 1, 2 q + 8 and 2 q + 9.
    """
    tiles = width // 16
    axes = ops.reshape(matrix, (4, tiles, 2, 8, tiles, 2, 4, 2))  # gate; warp, upper row, r; tile, upper column, q, 2
    return ops.cast(ops.transpose(axes, (1, 0, 4, 3, 6, 5, 2, 7)), half)


@dataclass(frozen=True)
class _Core:
    """The kernels as functions of padded tensors: z, U (width, 4, width), h, c, parameters and, if masked, valid."""

    variant: Variant
    steps: int
    batch: int
    clip: float

    @property
    def blocks(self) -> int:
        return -(-self.batch // ROWS)

    def infer(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        return self._outputs(self._run_forward(replace(self.variant, keep=False), tensors))

    def forward(self, *tensors: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        results = self._run_forward(replace(self.variant, keep=True), tensors)
        hidden, _, _, kept, cells = results
        return self._outputs(results), (*tensors[1:], hidden, kept, cells)

    def _outputs(self, results: Any) -> tuple[Tensor, ...]:
        hidden, h, c, *_ = results
        return (hidden, h, c) if self.variant.sequences else (h, c)

    def _run_forward(self, variant: Variant, tensors: Any) -> Any:
        z, recurrent, h, c, parameters, *valid = tensors
        width, threads = variant.units, variant.threads
        every_step, keep = variant.sequences or variant.keep, int(variant.keep)  # an unused output has no elements
        return run(
            kernel(variant, "forward", self.blocks),
            [z, fragments(ops.transpose(recurrent, (1, 2, 0)), width, variant.half), h, c, parameters, _one(valid)],
            [
                ((self.steps * every_step, self.batch, width), "float32"),
                ((self.batch, width), "float32"),
                ((self.batch, width), "float32"),
                ((self.blocks * keep, self.steps, 4, threads, 4), "float32"),
                ((self.blocks * keep, self.steps + 1, threads, 4), "float32"),
            ],
            self.steps,
            self.batch,
            self.clip,
        )

    def backward(self, kept: tuple[Tensor, ...], upstream: tuple[Tensor, ...]) -> tuple[Tensor | None, ...]:
        recurrent, h_start, _, parameters, *valid, hidden, gates, cells = kept
        *d_hidden, d_h, d_c = upstream
        variant, width = self.variant, self.variant.units
        # The largest gradient of each row and step, from which the kernel takes its scale for half precision.
        largest = [ops.max(ops.abs(tensor), axis=-1) for tensor in (*d_hidden, d_h, d_c)]
        if not d_hidden:
            largest.insert(0, ops.zeros((self.steps, self.batch)))
            d_hidden = [ops.zeros((0, self.batch, width))]
        d_z, d_h, d_c, d_parameters = run(
            kernel(replace(variant, keep=True), "backward", self.blocks),
            [
                gates,
                cells,
                fragments(ops.transpose(recurrent, (1, 0, 2)), width, variant.half),
                parameters,
                _one(valid),
                d_hidden[0],
                d_h,
                d_c,
                ops.concatenate([largest[0], ops.maximum(largest[1], largest[2])[None]]),
            ],
            [
                ((self.steps, self.batch, 4 * width), "float32"),
                ((self.batch, width), "float32"),
                ((self.batch, width), "float32"),
                ((self.blocks * any(variant.learned), 5, width), "float32"),
            ],
            self.steps,
            self.batch,
            self.clip,
        )
        # d_U = sum of (h before the step)^T d_z: h_start at the first step, then the output of the step before.
        d_recurrent = ops.matmul(ops.transpose(h_start), d_z[0])
        if self.steps > 1:
            before = ops.reshape(hidden[:-1], (-1, width))
            d_recurrent = d_recurrent + ops.matmul(ops.transpose(before), ops.reshape(d_z[1:], (-1, 4 * width)))
        d_parameters = ops.sum(d_parameters, axis=0) if any(variant.learned) else None
        return (d_z, _in_gates(d_recurrent, width), d_h, d_c, d_parameters, *(None for _ in valid))


def _one(valid: list[Tensor]) -> Tensor:
    return valid[0] if valid else ops.zeros((0,), "uint8")
