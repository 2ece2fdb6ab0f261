"""The two loops of the loop engine over the steps of a sequence, forward and backward.

Forward, from z = x W + b, computed for all steps at once:

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

A, B and F do not depend on later steps, so they can be computed inside the loop (`Fused`) or for all steps at once
before it (`Plain`). At a masked step A = B = 0 and F = 1, and dh does not change. An activation that is not elementwise
has no s; the loop computes its vector-Jacobian product instead.

In float16 and bfloat16, h, z, dz and the products have that type, as in the reference; the cell state, the activations,
A, B, F, dh and dc are float32.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from keras import ops

from zoo.activations import Activation
from zoo.kernels.contract import Options
from zoo.kernels.loop.scan import scan, vjp
from zoo.kernels.reference import lstm_step, split_gates
from zoo.types import Gates, Tensor, Tensors

HALF = ("float16", "bfloat16")
Times = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Gate:
    """An activation: a row of the table with its learned or random slope, or a function of one tensor."""

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
        return _same_type(z, self.activation(z, **self._arguments(self.slope)))

    def derivative(self, z: Tensor) -> Tensor:
        return _same_type(z, self.activation.derivative(z, **self._arguments(self.slope)))

    def vjp(self, z: Tensor, upstream: Tensor) -> Tensor:
        return _same_type(z, self.activation.vjp(z, upstream) if self.in_table else vjp(self, z, upstream))

    def slope_gradient(self, z: Tensor, upstream: Tensor) -> Tensor:
        """The gradient of the learned slope, (n,), from z and the gradient of the activation's value, (t, b, n)."""
        return vjp(lambda slope: Gate(self.activation, slope)(z), self.slope, upstream)

    def _arguments(self, slope: Tensor | None) -> dict[str, Tensor]:
        definition = self.activation.definition if slope is not None else None
        return {} if definition is None else {definition.learnable or definition.random: slope}


class _Forward(NamedTuple):
    """The inputs of a step forward: z in one array (b, 4 n) or one for each gate, and the mask (b, 1)."""

    z: Tensors
    mask: Tensor | None


class _Backward(NamedTuple):
    """The inputs of a step backward; for all steps at once, with a leading axis of steps.

    Attributes:
        z: The preactivations, in one array (b, 4 n) or one for each gate.
        cell: The cell state after the step, (b, n).
        before: The cell state before the step, (b, n).
        values: The value of each activation, or `None` for a row of the table, which is computed again.
        mask: Whether the step is valid, (b, 1), or `None`.
        upstream: The gradient of the step's output, (b, n), or `None` where only the last step has an output.
    """

    z: Tensors
    cell: Tensor
    before: Tensor | None = None
    values: Tensors = ()
    mask: Tensor | None = None
    upstream: Tensor | None = None


class _Factors(NamedTuple):
    """A (one array for each gate, or one in all), B and F; without s for an activation that is not elementwise."""

    a: Any
    b: Tensor
    f: Tensor


@dataclass(frozen=True)
class Recurrence:
    """Both loops over the steps, except for what depends on whether a compiler fuses the operations of a step."""

    options: Options
    gates: tuple[Gate, ...]
    dtype: str
    unrolled: bool
    cut: ClassVar[Callable[[Any, Tensor], Tensors]]  # from (b, 4 n) to the arrays in which a step has it
    step_back: ClassVar[Callable[[Any, Times, _Backward], tuple[Any, Any]]]  # the inputs and the step of the loop

    def run(
        self, times: Times, z: Tensor, h: Tensor, c: Tensor, mask: Tensor | None, keep: bool
    ) -> tuple[Tensors, Tensors]:
        """The last states, and for every step (z, c, values of functions, h) to keep, or only h, or nothing."""
        units = h.shape[-1]
        emitted = [(units, self.dtype)] if keep or self.options.return_sequences else []
        if keep:
            widths = [block.shape[-1] for block in self.cut(z)]
            functions = sum(not gate.in_table for gate in self.gates)
            emitted = (
                [(width, self.dtype) for width in widths] + [(units, self._wide_dtype)] * (1 + functions) + emitted
            )

        def step(states: Tensors, at: _Forward) -> tuple[Tensors, Tensors]:
            # z_t = z_t + h_{t-1} U;  h_t, c_t = step(z_t, c_{t-1})
            values: list[Tensor] = []
            z = [block + part for block, part in zip(at.z, self.cut(times(states[0])), strict=True)]
            functions = Gates(*(gate if gate.in_table else _keeping(gate, values) for gate in self.gates))
            received = tuple(map(self.widen, _by_gate(z)))
            h, c = lstm_step(received, states[1], functions, self.options.cell_clip)
            h = self.narrow(h)
            if at.mask is not None:
                h, c = (ops.where(at.mask, new, old) for new, old in zip((h, c), states, strict=True))
            return (h, c), ((*z, c, *values, h) if keep else (h,) if emitted else ())

        inputs = _Forward(self.cut(z), mask)
        (h, c), kept = scan(step, (h, self.widen(c)), inputs, emitted, unrolled=self.unrolled)
        return (h, self.narrow(c)), kept

    def records(self, kept: Sequence[Tensor], c: Tensor, mask: Tensor | None) -> _Backward:
        """The inputs of the backward pass at all steps, from what `run` kept except h, and the first c."""
        functions = sum(not gate.in_table for gate in self.gates)
        *z, cell = kept[: len(kept) - functions]
        values = iter(kept[len(kept) - functions :])
        by_gate = tuple(None if gate.in_table else next(values) for gate in self.gates)
        return _Backward(tuple(z), cell, ops.concatenate([self.widen(c)[None], cell[:-1]]), by_gate, mask)

    def run_back(self, times_back: Times, records: _Backward, upstream: Tensors) -> tuple[Tensors, Tensors]:
        """The gradients of the first states; for every step dz and, where a slope is learned, dc and dh."""
        d_h, d_c = (self.widen(tensor) for tensor in upstream)
        if self.options.return_sequences:
            records, d_h = records._replace(upstream=d_h), ops.zeros_like(d_c)
        units = d_h.shape[-1]
        emitted = [(4 * units, self.dtype), *[(units, self._wide_dtype)] * (2 * self._learns)]
        inputs, step = self.step_back(times_back, records)
        return scan(step, (d_h, d_c), inputs, emitted, reverse=True)

    def slope_gradients(self, records: _Backward, d_c: Tensor, d_h: Tensor) -> list[Tensor | None]:
        by_gate = zip(
            self.gates, self._received(records), self._outer(records)[0], (d_c, d_c, d_c, d_h, d_h), strict=True
        )
        return [
            self.narrow(gate.slope_gradient(z, _valid(records, d * a))) if gate.learns else None
            for gate, z, a, d in by_gate
        ]

    # === The equations of the backward pass, for one step or for all ===

    def factors(self, records: _Backward) -> _Factors:
        # A and B: the factors of dc and dh, times the derivative where the activation is elementwise; F is `carried`.
        outer, carried = self._outer(records)
        scaled = [
            _valid(records, a * gate.derivative(z) if gate.elementwise else a)
            for gate, a, z in zip(self.gates, outer, self._received(records), strict=True)
        ]
        if records.mask is not None:
            carried = ops.where(records.mask, carried, ops.ones_like(carried))
        return _Factors(tuple(scaled[:4]), scaled[4], carried)

    def state_gradients(self, states: Tensors, records: _Backward, b: Tensor) -> tuple[Tensor, Tensor]:
        """The gradients dh and dc of the states after the step, with the contribution of the step's output."""
        d_h = states[0] if records.upstream is None else states[0] + records.upstream
        # dh = dh + dy_t;  dc = dc + dh B_t
        d_y, hidden = d_h * b, self.gates[4]
        return d_h, states[1] + (d_y if hidden.elementwise else _valid(records, hidden.vjp(records.cell, d_y)))

    def through_functions(self, d_z: Sequence[Tensor], records: _Backward) -> Sequence[Tensor]:
        """The gradient dz of each gate, from `d_z` without the factor of activations that are not elementwise."""
        by_gate = zip(self.gates, d_z, self._received(records), strict=False)
        return [d if gate.elementwise else _valid(records, gate.vjp(z, d)) for gate, d, z in by_gate]

    def carried(
        self, times_back: Times, records: _Backward, d_z: Tensor, d_h: Tensor, d_c: Tensor, f: Tensor
    ) -> tuple[Tensors, Tensors]:
        """The gradients of the states before the step, and what the step emits."""
        # dh = dz_t U^T, or dh itself at a masked step;  dc = dc F_t
        d_z = self.narrow(d_z)
        d_before = self.widen(times_back(d_z))
        if records.mask is not None:
            d_before = ops.where(records.mask, d_before, d_h)
        return (d_before, d_c * f), ((d_z, d_c, d_h) if self._learns else (d_z,))

    def _outer(self, records: _Backward) -> tuple[list[Tensor], Tensor]:
        """The factors of dc, or of dh for the last two, for the gradient of each activation's value; and F."""
        values = records.values or (None,) * 5
        i, f, g, o, y = (
            gate(z) if value is None else value
            for gate, z, value in zip(self.gates, self._received(records), values, strict=True)
        )
        before = records.before
        if self.options.cell_clip is None:
            return [g, before, i, y, o], f
        # Only the clipped state was kept, so the sum before clipping is computed again.
        uncut = 1 - ops.cast(ops.abs(f * before + i * g) > self.options.cell_clip, self._wide_dtype)
        return [g * uncut, before * uncut, i * uncut, y, o], f * uncut

    def _received(self, records: _Backward) -> list[Tensor]:
        """The arguments of the five activations."""
        return [*map(self.widen, _by_gate(records.z)), records.cell]

    @property
    def _learns(self) -> bool:
        return any(gate.learns for gate in self.gates)

    # === Types ===

    @property
    def _wide_dtype(self) -> str:
        return "float32" if self.dtype in HALF else self.dtype

    def widen(self, tensor: Tensor) -> Tensor:
        return ops.cast(tensor, self._wide_dtype) if self.dtype in HALF else tensor

    def narrow(self, tensor: Tensor) -> Tensor:
        return ops.cast(tensor, self.dtype) if self.dtype in HALF else tensor


class Fused(Recurrence):
    """For JAX, whose compiler fuses the operations of a step: A, B and F are computed inside the loop.

    The gates are separate arrays: for a step that cuts one array, XLA's code on a CPU is up to five times slower.
    """

    def cut(self, whole: Tensor) -> Tensors:
        return split_gates(whole)

    def step_back(self, times_back: Times, records: _Backward) -> tuple[Any, Any]:
        def step(states: Tensors, at: _Backward) -> tuple[Tensors, Tensors]:
            a, b, f = self.factors(at)
            d_h, d_c = self.state_gradients(states, at, b)
            d_z = self.through_functions([d * factor for d, factor in zip((d_c, d_c, d_c, d_h), a, strict=True)], at)
            return self.carried(times_back, at, ops.concatenate(d_z, axis=-1), d_h, d_c, f)

        return records, step


class Plain(Recurrence):
    """For other backends, where each operation in the loop has a cost at every step: A, B and F come before it."""

    def cut(self, whole: Tensor) -> Tensors:
        return (whole,)

    def step_back(self, times_back: Times, records: _Backward) -> tuple[Any, Any]:
        a, b, f = self.factors(records)
        # The loop gets only the arrays that it needs, since each costs a slice at every step.
        rest = _Backward((), None, mask=records.mask, upstream=records.upstream)
        if not all(gate.elementwise for gate in self.gates):
            rest = rest._replace(z=records.z, cell=records.cell)

        def step(states: Tensors, at: tuple[_Factors, _Backward]) -> tuple[Tensors, Tensors]:
            factors, records = at
            d_h, d_c = self.state_gradients(states, records, factors.b)
            # dz_t = [dc, dc, dc, dh] A_t
            d_z = ops.concatenate([d_c, d_c, d_c, d_h], axis=-1) * factors.a
            if not all(gate.elementwise for gate in self.gates[:4]):
                d_z = ops.concatenate(self.through_functions(split_gates(d_z), records), axis=-1)
            return self.carried(times_back, records, d_z, d_h, d_c, factors.f)

        return (_Factors(ops.concatenate(a, axis=-1), b, f), rest), step


def _by_gate(z: Sequence[Tensor]) -> Tensors:
    return tuple(z) if len(z) == 4 else split_gates(z[0])


def _valid(records: _Backward, tensor: Tensor) -> Tensor:
    """Set `tensor` to 0 where a step is masked."""
    return tensor if records.mask is None else ops.where(records.mask, tensor, ops.zeros_like(tensor))


def _same_type(z: Tensor, value: Tensor) -> Tensor:
    # Some of Keras's own functions return another type for float64 on JAX and torch.
    return value if value.dtype == z.dtype else ops.cast(value, z.dtype)


def _keeping(function: Callable[[Tensor], Tensor], values: list[Tensor]) -> Callable[[Tensor], Tensor]:
    """Wrap `function` so that it also appends its result to `values`."""

    def keeping(z: Tensor) -> Tensor:
        values.append(function(z))
        return values[-1]

    return keeping
