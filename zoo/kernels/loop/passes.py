"""The forward and the backward pass of the loop engine.

Forward, from z = x W + b, which was computed for every step at once:

    z_t = z_t + h_{t-1} U                   kept: z_t, c_t, h_t
    h_t, c_t = step(z_t, c_{t-1})           `zoo.kernels.reference.lstm_step`

Backward, with s the derivative of an activation, and k = 1, or 0 where `cell_clip` cuts:

    A_t = [k g s_i(z_i), k c_{t-1} s_f(z_f), k i s_g(z_c), hidden(c_t) s_o(z_o)]
    B_t = o s_hidden(c_t)
    F_t = k f

    dh = dh + dy_t                          dy_t the gradient of the output
    dc = dc + dh B_t
    dz_t = [dc, dc, dc, dh] A_t
    dh = dz_t U^T
    dc = dc F_t

    dU = sum of h_{t-1}^T dz_t              one product, after the loop

A, B and F need nothing of a later step. Where a compiler fuses, they are computed inside the loop; else for every step
at once, since each operation in the loop would cost a start a step. At a masked step A = B = 0 and F = 1, and dh stays
what it was. An activation that is not elementwise has no s: its vector-Jacobian product stands in the loop.

In float16 and bfloat16, h, z, dz and the products have that type, as in the reference; the cell state, the activations,
A, B, F, dh and dc are float32.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
from keras import ops

from zoo.activations import Activation
from zoo.kernels.contract import Options
from zoo.kernels.loop.products import kernel_gradient, product, product_back
from zoo.kernels.loop.scan import scan, vjp
from zoo.kernels.reference import lstm_step, split_gates
from zoo.types import Gates, Tensor, Tensors

HALF = ("float16", "bfloat16")
Slices = Mapping[str, Tensor]


def _like(z: Tensor, found: Tensor) -> Tensor:
    # A function may return another type: Keras's own do, for some of them in float64 on JAX and torch.
    return found if found.dtype == z.dtype else ops.cast(found, z.dtype)


@dataclass(frozen=True)
class _Gate:
    """One of the five activations: a row of the table with what it learns or drew, or a function of one tensor."""

    activation: Any
    slope: Tensor | None

    @property
    def in_table(self) -> bool:
        return isinstance(self.activation, Activation)

    @property
    def elementwise(self) -> bool:
        return self.in_table and bool(self.activation.definition.elementwise)

    @property
    def learns(self) -> bool:
        return self.slope is not None and len(self.slope.shape) == 1

    def __call__(self, z: Tensor) -> Tensor:
        return _like(z, self.activation(z, **self._given(self.slope)))

    def derivative(self, z: Tensor) -> Tensor:
        return _like(z, self.activation.derivative(z, **self._given(self.slope)))

    def vjp(self, z: Tensor, upstream: Tensor) -> Tensor:
        return _like(z, self.activation.vjp(z, upstream) if self.in_table else vjp(self, z, upstream))

    def slope_gradient(self, z: Tensor, upstream: Tensor) -> Tensor:
        """That of the learned slope, (n,), from z and the gradient of what the activation gave, (t, b, n)."""
        return vjp(lambda slope: _Gate(self.activation, slope)(z), self.slope, upstream)

    def _given(self, slope: Tensor | None) -> dict[str, Tensor]:
        definition = self.activation.definition if slope is not None else None
        return {} if definition is None else {definition.learnable or definition.random: slope}


@dataclass(frozen=True)
class Passes:
    """The two passes as functions of flat tuples of tensors, of which some may be left out.

    Attributes:
        options: Of the call.
        present: Which there are of z (t, b, 4 n), recurrent_kernel, h, c, mask (t, b, 1), factors of h (4, b, n), and
            the five slopes, learned where they are (n,) and drawn where (b, n).
        dtype: Of all but the mask.
        unrolled: As `zoo.kernels.loop.scan.scan` has it.
    """

    options: Options
    present: tuple[bool, ...]
    dtype: str
    unrolled: bool = False

    # === Forward ===

    def forward(self, *tensors: Tensor) -> tuple[Tensors, Tensors]:
        (hidden, cell), found = self._run(tensors, keep=True)
        outputs = found[-1] if self.options.return_sequences else hidden
        return (outputs, cell), (*tensors[1:], *found)

    def infer(self, *tensors: Tensor) -> Tensors:
        (hidden, cell), found = self._run(tensors, keep=False)
        return (found[-1] if self.options.return_sequences else hidden), cell

    def _run(self, tensors: Tensors, keep: bool) -> tuple[Tensors, Tensors]:
        """The last states, and of every step what the backward pass needs, h last, or h alone, or nothing."""
        z, recurrent_kernel, h, c, mask, factors, *slopes = self._all(tensors)
        gates, times, units = self._gates(slopes), product(recurrent_kernel, factors), recurrent_kernel.shape[0]
        kinds = [(units, self.dtype)] if keep or self.options.return_sequences else []
        if keep:
            of_functions = sum(not gate.in_table for gate in gates)
            width = 4 * units // len(self._blocks)
            kinds = [(width, self.dtype) for _ in self._blocks] + [(units, self._wide)] * (1 + of_functions) + kinds

        def step(states: Tensors, at: Slices) -> tuple[Tensors, Tensors]:
            values: list[Tensor] = []
            parts = self._cut(times(states[0]))
            z = [at[name] + part for name, part in zip(self._blocks, parts, strict=True)]
            functions = Gates(*(gate if gate.in_table else _keeping(gate, values) for gate in gates))
            received = tuple(map(self._to_wide, self._of_gates(z)))
            h, c = lstm_step(received, states[1], functions, self.options.cell_clip)
            h = self._to_narrow(h)
            if "mask" in at:
                h, c = (ops.where(at["mask"], new, old) for new, old in zip((h, c), states, strict=True))
            return (h, c), ((*z, c, *values, h) if keep else (h,) if kinds else ())

        inputs = dict(zip(self._blocks, self._cut(z), strict=True))
        inputs = inputs if mask is None else inputs | {"mask": mask}
        (h, c), found = scan(step, (h, self._to_wide(c)), inputs, kinds, unrolled=self.unrolled)
        return (h, self._to_narrow(c)), found

    # === Backward ===

    def backward(self, kept: Tensors, upstream: Tensors) -> Tensors:
        _, recurrent_kernel, h, c, mask, factors, *slopes = self._all((None, *kept))
        *found, hiddens = kept[sum(self.present) - 1 :]
        gates = self._gates(slopes)
        functions = [f"value{k}" for k, gate in enumerate(gates) if not gate.in_table]
        held = dict(zip((*self._blocks, "cell", *functions), found, strict=True))
        held["before"] = ops.concatenate([self._to_wide(c)[None], held["cell"][:-1]])
        if mask is not None:
            held["mask"] = mask
        (d_h, d_c), (d_z, *d_states) = self._run_back(gates, product_back(recurrent_kernel, factors), held, upstream)
        d_kernel = kernel_gradient(ops.concatenate([h[None], hiddens[:-1]]), d_z, factors)
        d_slopes = self._slope_gradients(gates, held, d_states) if d_states else [None] * 5
        gradients = (d_z, d_kernel, self._to_narrow(d_h), self._to_narrow(d_c), None, None, *d_slopes)
        return tuple(gradient for gradient, present in zip(gradients, self.present, strict=True) if present)

    def _run_back(
        self, gates: list[_Gate], times: Callable[[Tensor], Tensor], held: Slices, upstream: Tensors
    ) -> tuple[Tensors, Tensors]:
        """The gradients of the first states, and of every step dz and, where a slope is learned, dc and dh."""
        units, learns = held["cell"].shape[-1], any(gate.learns for gate in gates)
        read = dict(held) if self._fuses else self._read(gates, held)
        d_h, d_c = (self._to_wide(tensor) for tensor in upstream)
        if self.options.return_sequences:
            read["upstream"], d_h = d_h, ops.zeros_like(d_c)

        def step(states: Tensors, at: Slices) -> tuple[Tensors, Tensors]:
            linear = self._linear(gates, at) if self._fuses else at
            d_h = states[0] + at["upstream"] if "upstream" in at else states[0]
            d_y = d_h * linear["B"]
            d_c = states[1] + (d_y if gates[4].elementwise else _valid(at, gates[4].vjp(at["cell"], d_y)))
            d_z = [d * linear[f"A{k}"] for k, d in enumerate(self._joined([d_c, d_c, d_c, d_h]))]
            if not all(gate.elementwise for gate in gates[:4]):
                pairs = zip(gates, self._of_gates(d_z), self._arguments(at), strict=False)
                d_z = [d if gate.elementwise else _valid(at, gate.vjp(z, d)) for gate, d, z in pairs]
            d_z = self._to_narrow(ops.concatenate(d_z, axis=-1) if len(d_z) > 1 else d_z[0])
            d_before = self._to_wide(times(d_z))
            if "mask" in at:
                d_before = ops.where(at["mask"], d_before, d_h)
            return (d_before, d_c * linear["F"]), ((d_z, d_c, d_h) if learns else (d_z,))

        kinds = [(4 * units, self.dtype), *[(units, self._wide)] * (2 * learns)]
        return scan(step, (d_h, d_c), read, kinds, reverse=True)

    def _read(self, gates: list[_Gate], held: Slices) -> dict[str, Tensor]:
        """What a step reads where A, B and F are computed beforehand."""
        names = ["mask"] if all(gate.elementwise for gate in gates) else ["mask", "cell", *self._blocks]
        return self._linear(gates, held) | {name: held[name] for name in names if name in held}

    def _linear(self, gates: list[_Gate], at: Slices) -> dict[str, Tensor]:
        """A, B and F of one step or of all; where an activation is not elementwise, without its s."""
        outer, carried = self._outer(gates, at)
        scaled = [
            _valid(at, a * gate.derivative(z) if gate.elementwise else a)
            for gate, a, z in zip(gates, outer, self._arguments(at), strict=True)
        ]
        if "mask" in at:
            carried = ops.where(at["mask"], carried, ops.ones_like(carried))
        return {"B": scaled[4], "F": carried} | {f"A{k}": a for k, a in enumerate(self._joined(scaled[:4]))}

    def _outer(self, gates: list[_Gate], at: Slices) -> tuple[list[Tensor], Tensor]:
        """What dc, or dh for the last two, is multiplied with to give the gradient of each activation; and F."""
        i, f, g, o, y = (
            gate(z) if gate.in_table else at[f"value{k}"]
            for k, (gate, z) in enumerate(zip(gates, self._arguments(at), strict=True))
        )
        before = at["before"]
        if self.options.cell_clip is None:
            return [g, before, i, y, o], f
        cut = ops.abs(f * before + i * g) > self.options.cell_clip
        uncut = 1 - ops.cast(cut, self._wide)
        return [g * uncut, before * uncut, i * uncut, y, o], f * uncut

    def _slope_gradients(self, gates: list[_Gate], held: Slices, d_states: Sequence[Tensor]) -> list[Tensor | None]:
        d_c, d_h = d_states
        found = zip(gates, self._arguments(held), self._outer(gates, held)[0], (d_c, d_c, d_c, d_h, d_h), strict=True)
        return [
            self._to_narrow(gate.slope_gradient(z, _valid(held, d * a))) if gate.learns else None
            for gate, z, a, d in found
        ]

    # === How z is held, and in which type ===

    @property
    def _fuses(self) -> bool:
        """Whether a compiler will join the operations of a step.

        XLA makes slow code on a CPU, by up to five times, of a step that cuts one array into gates: they are separate.
        """
        return bool(keras.backend.backend() == "jax")

    @property
    def _blocks(self) -> tuple[str, ...]:
        return ("z0", "z1", "z2", "z3") if self._fuses else ("z",)

    def _cut(self, whole: Tensor) -> Tensors:
        return split_gates(whole) if self._fuses else (whole,)

    def _joined(self, parts: Sequence[Tensor]) -> Sequence[Tensor]:
        return parts if self._fuses else [ops.concatenate(parts, axis=-1)]

    def _of_gates(self, blocks: Sequence[Tensor]) -> Tensors:
        return tuple(blocks) if self._fuses else split_gates(blocks[0])

    def _arguments(self, at: Slices) -> list[Tensor]:
        """What the five activations received."""
        return [*(self._to_wide(z) for z in self._of_gates([at[name] for name in self._blocks])), at["cell"]]

    @property
    def _wide(self) -> str:
        return "float32" if self.dtype in HALF else self.dtype

    def _to_wide(self, tensor: Tensor) -> Tensor:
        return ops.cast(tensor, self._wide) if self.dtype in HALF else tensor

    def _to_narrow(self, tensor: Tensor) -> Tensor:
        return ops.cast(tensor, self.dtype) if self.dtype in HALF else tensor

    def _all(self, tensors: Tensors) -> list[Any]:
        found = iter(tensors)
        return [next(found) if present else None for present in self.present]

    def _gates(self, slopes: Sequence[Tensor | None]) -> list[_Gate]:
        wide = (None if slope is None else self._to_wide(slope) for slope in slopes)
        return [_Gate(activation, slope) for activation, slope in zip(self.options.activations, wide, strict=True)]


def _valid(at: Slices, tensor: Tensor) -> Tensor:
    """`tensor`, but 0 where a step is masked."""
    return ops.where(at["mask"], tensor, ops.zeros_like(tensor)) if "mask" in at else tensor


def _keeping(function: Callable[[Tensor], Tensor], values: list[Tensor]) -> Callable[[Tensor], Tensor]:
    """`function`, which also puts what it gives into `values`."""

    def keeping(z: Tensor) -> Tensor:
        values.append(function(z))
        return values[-1]

    return keeping
