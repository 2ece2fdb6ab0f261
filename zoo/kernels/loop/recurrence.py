"""The two loops of the loop engine over the steps of a sequence, forward and backward.

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

A, B and F depend on no later step, so they can be computed inside the loop (`Fused`) or for every step at once before
it (`Plain`). At a masked step A = B = 0 and F = 1, and dh stays what it was. An activation that is not elementwise has
no s: the loop computes its vector-Jacobian product instead.

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
    """One of the five activations: a row of the table with its learned or drawn slope, or a function of one tensor."""

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
    """What a step of the forward pass reads: z in one array (b, 4 n) or one array a gate, and the mask (b, 1)."""

    z: Tensors
    mask: Tensor | None


class _Backward(NamedTuple):
    """What a step of the backward pass reads; for every step at once, with a leading axis of steps.

    Attributes:
        z: What the gates received, in one array (b, 4 n) or one array a gate.
        cell: The cell state after the step, (b, n).
        before: The cell state before the step, (b, n).
        values: What each of the five activations gave, or `None` for a row of the table, which is computed again.
        mask: Whether the step is valid, (b, 1), or `None`.
        upstream: The gradient of the step's output, (b, n), or `None` where only the last step puts out.
    """

    z: Tensors
    cell: Tensor
    before: Tensor | None = None
    values: Tensors = ()
    mask: Tensor | None = None
    upstream: Tensor | None = None


class _Factors(NamedTuple):
    """A (one array a gate, or one in all), B and F; A of an activation that is not elementwise lacks s."""

    a: Any
    b: Tensor
    f: Tensor


@dataclass(frozen=True)
class Recurrence:
    """Both loops over the steps, as far as they do not depend on whether a compiler fuses a step."""

    options: Options
    gates: tuple[Gate, ...]
    dtype: str
    unrolled: bool
    cut: ClassVar[Callable[[Any, Tensor], Tensors]]  # (b, 4 n) as the arrays in which a step holds it
    step_back: ClassVar[Callable[[Any, Times, _Backward], tuple[Any, Any]]]  # what the loop reads; its step

    def run(
        self, times: Times, z: Tensor, h: Tensor, c: Tensor, mask: Tensor | None, keep: bool
    ) -> tuple[Tensors, Tensors]:
        """The last states, and of every step (z, c, values of functions, h) to keep, or h alone, or nothing."""
        units = h.shape[-1]
        emitted = [(units, self.dtype)] if keep or self.options.return_sequences else []
        if keep:
            widths = [block.shape[-1] for block in self.cut(z)]
            functions = sum(not gate.in_table for gate in self.gates)
            emitted = [(width, self.dtype) for width in widths] + [(units, self._wide)] * (1 + functions) + emitted

        def step(states: Tensors, at: _Forward) -> tuple[Tensors, Tensors]:
            values: list[Tensor] = []
            z = [block + part for block, part in zip(at.z, self.cut(times(states[0])), strict=True)]
            functions = Gates(*(gate if gate.in_table else _keeping(gate, values) for gate in self.gates))
            received = tuple(map(self.to_wide, _by_gate(z)))
            h, c = lstm_step(received, states[1], functions, self.options.cell_clip)
            h = self.to_narrow(h)
            if at.mask is not None:
                h, c = (ops.where(at.mask, new, old) for new, old in zip((h, c), states, strict=True))
            return (h, c), ((*z, c, *values, h) if keep else (h,) if emitted else ())

        inputs = _Forward(self.cut(z), mask)
        (h, c), kept = scan(step, (h, self.to_wide(c)), inputs, emitted, unrolled=self.unrolled)
        return (h, self.to_narrow(c)), kept

    def seen(self, kept: Sequence[Tensor], c: Tensor, mask: Tensor | None) -> _Backward:
        """What the backward pass reads of every step, from what `run` kept but h, and the first c."""
        functions = sum(not gate.in_table for gate in self.gates)
        *z, cell = kept[: len(kept) - functions]
        values = iter(kept[len(kept) - functions :])
        by_gate = tuple(None if gate.in_table else next(values) for gate in self.gates)
        return _Backward(tuple(z), cell, ops.concatenate([self.to_wide(c)[None], cell[:-1]]), by_gate, mask)

    def run_back(self, times_back: Times, seen: _Backward, upstream: Tensors) -> tuple[Tensors, Tensors]:
        """The gradients of the first states, and of every step dz and, where a slope is learned, dc and dh."""
        d_h, d_c = (self.to_wide(tensor) for tensor in upstream)
        if self.options.return_sequences:
            seen, d_h = seen._replace(upstream=d_h), ops.zeros_like(d_c)
        units = d_h.shape[-1]
        emitted = [(4 * units, self.dtype), *[(units, self._wide)] * (2 * self._learns)]
        inputs, step = self.step_back(times_back, seen)
        return scan(step, (d_h, d_c), inputs, emitted, reverse=True)

    def slope_gradients(self, seen: _Backward, d_c: Tensor, d_h: Tensor) -> list[Tensor | None]:
        by_gate = zip(self.gates, self._received(seen), self._outer(seen)[0], (d_c, d_c, d_c, d_h, d_h), strict=True)
        return [
            self.to_narrow(gate.slope_gradient(z, _valid(seen, d * a))) if gate.learns else None
            for gate, z, a, d in by_gate
        ]

    # === The equations of the backward pass, for one step or for all ===

    def factors(self, seen: _Backward) -> _Factors:
        outer, carried = self._outer(seen)
        scaled = [
            _valid(seen, a * gate.derivative(z) if gate.elementwise else a)
            for gate, a, z in zip(self.gates, outer, self._received(seen), strict=True)
        ]
        if seen.mask is not None:
            carried = ops.where(seen.mask, carried, ops.ones_like(carried))
        return _Factors(tuple(scaled[:4]), scaled[4], carried)

    def state_gradients(self, states: Tensors, seen: _Backward, b: Tensor) -> tuple[Tensor, Tensor]:
        """Give dh and dc of the states after the step, with what the step's own output adds to them."""
        d_h = states[0] if seen.upstream is None else states[0] + seen.upstream
        d_y, hidden = d_h * b, self.gates[4]
        return d_h, states[1] + (d_y if hidden.elementwise else _valid(seen, hidden.vjp(seen.cell, d_y)))

    def through_functions(self, d_z: Sequence[Tensor], seen: _Backward) -> Sequence[Tensor]:
        """Give dz of each gate, from A times its gradient, which lacks the activations that are not elementwise."""
        by_gate = zip(self.gates, d_z, self._received(seen), strict=False)
        return [d if gate.elementwise else _valid(seen, gate.vjp(z, d)) for gate, d, z in by_gate]

    def carried(
        self, times_back: Times, seen: _Backward, d_z: Tensor, d_h: Tensor, d_c: Tensor, f: Tensor
    ) -> tuple[Tensors, Tensors]:
        """The gradients of the states before the step, and what the step emits."""
        d_z = self.to_narrow(d_z)
        d_before = self.to_wide(times_back(d_z))
        if seen.mask is not None:
            d_before = ops.where(seen.mask, d_before, d_h)
        return (d_before, d_c * f), ((d_z, d_c, d_h) if self._learns else (d_z,))

    def _outer(self, seen: _Backward) -> tuple[list[Tensor], Tensor]:
        """The factors of dc, or of dh for the last two, that give the gradient of each activation's value; and F."""
        values = seen.values or (None,) * 5
        i, f, g, o, y = (
            gate(z) if value is None else value
            for gate, z, value in zip(self.gates, self._received(seen), values, strict=True)
        )
        before = seen.before
        if self.options.cell_clip is None:
            return [g, before, i, y, o], f
        # The state that was kept is the clipped one, so the sum before the clip is made again.
        uncut = 1 - ops.cast(ops.abs(f * before + i * g) > self.options.cell_clip, self._wide)
        return [g * uncut, before * uncut, i * uncut, y, o], f * uncut

    def _received(self, seen: _Backward) -> list[Tensor]:
        """What the five activations received."""
        return [*map(self.to_wide, _by_gate(seen.z)), seen.cell]

    @property
    def _learns(self) -> bool:
        return any(gate.learns for gate in self.gates)

    # === Types ===

    @property
    def _wide(self) -> str:
        return "float32" if self.dtype in HALF else self.dtype

    def to_wide(self, tensor: Tensor) -> Tensor:
        return ops.cast(tensor, self._wide) if self.dtype in HALF else tensor

    def to_narrow(self, tensor: Tensor) -> Tensor:
        return ops.cast(tensor, self.dtype) if self.dtype in HALF else tensor


class Fused(Recurrence):
    """For JAX, whose compiler joins the operations of a step: A, B and F are computed inside the loop.

    XLA makes slow code on a CPU, by up to five times, of a step that cuts one array into gates: they are separate.
    """

    def cut(self, whole: Tensor) -> Tensors:
        return split_gates(whole)

    def step_back(self, times_back: Times, seen: _Backward) -> tuple[Any, Any]:
        def step(states: Tensors, at: _Backward) -> tuple[Tensors, Tensors]:
            a, b, f = self.factors(at)
            d_h, d_c = self.state_gradients(states, at, b)
            d_z = self.through_functions([d * factor for d, factor in zip((d_c, d_c, d_c, d_h), a, strict=True)], at)
            return self.carried(times_back, at, ops.concatenate(d_z, axis=-1), d_h, d_c, f)

        return seen, step


class Plain(Recurrence):
    """Without such a compiler each operation costs a start a step: A, B and F are computed for every step at once."""

    def cut(self, whole: Tensor) -> Tensors:
        return (whole,)

    def step_back(self, times_back: Times, seen: _Backward) -> tuple[Any, Any]:
        a, b, f = self.factors(seen)
        # The loop reads no more than it needs, since every array costs a slice a step.
        rest = _Backward((), None, mask=seen.mask, upstream=seen.upstream)
        if not all(gate.elementwise for gate in self.gates):
            rest = rest._replace(z=seen.z, cell=seen.cell)

        def step(states: Tensors, at: tuple[_Factors, _Backward]) -> tuple[Tensors, Tensors]:
            factors, seen = at
            d_h, d_c = self.state_gradients(states, seen, factors.b)
            d_z = ops.concatenate([d_c, d_c, d_c, d_h], axis=-1) * factors.a
            if not all(gate.elementwise for gate in self.gates[:4]):
                d_z = ops.concatenate(self.through_functions(split_gates(d_z), seen), axis=-1)
            return self.carried(times_back, seen, d_z, d_h, d_c, factors.f)

        return (_Factors(ops.concatenate(a, axis=-1), b, f), rest), step


def _by_gate(z: Sequence[Tensor]) -> Tensors:
    return tuple(z) if len(z) == 4 else split_gates(z[0])


def _valid(seen: _Backward, tensor: Tensor) -> Tensor:
    """`tensor`, but 0 where a step is masked."""
    return tensor if seen.mask is None else ops.where(seen.mask, tensor, ops.zeros_like(tensor))


def _same_type(z: Tensor, value: Tensor) -> Tensor:
    # A function may return another type: Keras's own do, for some of them in float64 on JAX and torch.
    return value if value.dtype == z.dtype else ops.cast(value, z.dtype)


def _keeping(function: Callable[[Tensor], Tensor], values: list[Tensor]) -> Callable[[Tensor], Tensor]:
    """`function`, which also appends what it gives to `values`."""

    def keeping(z: Tensor) -> Tensor:
        values.append(function(z))
        return values[-1]

    return keeping
