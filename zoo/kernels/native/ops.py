"""The native engine in TensorFlow: two operations, the gradient of the first, and the gradient of that gradient."""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

from zoo.activations import ACTIVATIONS, Activation
from zoo.kernels.contract import Operands, Options, Outputs
from zoo.kernels.loop import plain_lstm
from zoo.kernels.native import bindings
from zoo.types import Gates, Tensor

# === Not in a SavedModel ===

# `zoo.kernels.target` gives stock operations to a graph that is saved. It cannot know that a training function, traced
# before, will be saved later. A SavedModel contains every overriding gradient of an operation, so TensorFlow calls the
# gradient below, without an operation, before it writes anything.
_LOCAL_GRADIENT = "ZooLstmInThisProcess"


@contextlib.contextmanager
def _not_in_a_saved_model() -> Iterator[None]:
    """Make native operations in a graph refuse to be saved; a context and a decorator."""
    if tf.executing_eagerly():
        yield
    else:
        with tf.compat.v1.get_default_graph().gradient_override_map({"ZooLstm": _LOCAL_GRADIENT}):
            yield


@tf.RegisterGradient(_LOCAL_GRADIENT)  # type: ignore[untyped-decorator]
def _local_gradient(op: Any, *upstream: Tensor) -> list[Tensor | None]:
    if op is None:
        raise ValueError(
            "a function that is to be saved was traced with the native engine, whose operation ZooLstm exists only in "
            "this process: no other program could load the file, saved with gradients or without. Save a function that "
            "has not been called for training, or build the layer with engine='reference'."
        )
    return _gradient(op, *upstream)


# === The operation and its gradient ===


@_not_in_a_saved_model()
def lstm(operands: Operands, options: Options) -> Outputs:
    """Run the recurrence of `zoo.kernels.reference.lstm_step` over a sequence; a `zoo.kernels.contract.Run`."""
    dtype, units = operands.x.dtype, operands.recurrent_kernel.shape[0]

    def or_empty(tensor: Tensor | None, kind: Any = dtype) -> Tensor:
        return tf.zeros((0,), kind) if tensor is None else tensor

    rows = [_parameter(a, slope, units, dtype) for a, slope in zip(options.activations, operands.slopes, strict=True)]
    clip = None if options.cell_clip is None else tf.constant(options.cell_clip, tf.float64)
    outputs, h, c, *_ = bindings.operations().zoo_lstm(
        x=operands.x,
        kernel=operands.kernel,
        recurrent_kernel=operands.recurrent_kernel,
        bias=or_empty(operands.bias),
        h0=operands.h,
        c0=operands.c,
        mask=or_empty(operands.mask, tf.bool),
        dropout=or_empty(operands.dropout),
        parameters=tf.stack(rows),
        cell_clip=or_empty(clip, tf.float64),
        activations=[bindings.codes()[a.name] for a in options.activations],
        learned=sum(1 << gate for gate, slope in enumerate(operands.slopes) if slope is not None),
        threads=bindings.threads(),
        go_backwards=options.go_backwards,
        return_sequences=options.return_sequences,
        zero_output_for_mask=options.zero_output_for_mask,
        training=options.training,
    )
    batch, steps = operands.x.shape[:2]  # the operation leaves its shapes open
    outputs.set_shape((batch, steps, units) if options.return_sequences else (batch, units))
    h.set_shape((batch, units))
    c.set_shape((batch, units))
    return outputs, h, c


def _parameter(activation: Activation, slope: Tensor | None, units: int, dtype: Any) -> Tensor:
    if slope is not None:
        return slope
    return tf.fill((units,), tf.constant(next((value for _, value in activation.parameters), 0.0), dtype))


_INPUTS = ("x", "kernel", "recurrent_kernel", "bias", "h0", "c0", "mask", "dropout", "parameters", "cell_clip")
_KEPT = ("gates", "cells", "hidden")
_UPSTREAM = ("d_outputs", "d_h_n", "d_c_n")
_SHARED = ("activations", "learned", "threads", "go_backwards", "return_sequences", "zero_output_for_mask")


def _gradient(op: Any, d_outputs: Tensor, d_h: Tensor, d_c: Tensor, *_: Tensor) -> list[Tensor | None]:
    """Gradients of the ten inputs of ZooLstm."""
    inputs = dict(zip(_INPUTS, op.inputs, strict=True))
    x, kernel, recurrent_kernel = inputs["x"], inputs["kernel"], inputs["recurrent_kernel"]
    attributes = {name: op.get_attr(name) for name in _SHARED}
    forward = op.outputs
    if not op.get_attr("training"):  # inference kept nothing, so the forward pass runs once more
        forward = bindings.operations().zoo_lstm(**inputs, **attributes, training=True)
    outputs, _, _, gates, cells, hidden = forward
    # Without a mask the outputs of all steps are the hidden states, which are then not kept a second time.
    outputs_serve = attributes["return_sequences"] and inputs["mask"].shape.rank == 1
    of_x = 0 not in (getattr(op, "skip_input_indices", None) or ())  # eager TensorFlow says if x needs no gradient
    d_gates, d_bias, d_h0, d_c0, d_parameters, d_kernels = bindings.operations().zoo_lstm_grad(
        **inputs,
        gates=gates,
        cells=cells,
        hidden=outputs if outputs_serve else hidden,
        d_outputs=d_outputs,
        d_h_n=d_h,
        d_c_n=d_c,
        of_x=of_x,
        **attributes,
    )
    # An optimizer that clips by value needs the shapes, which the operation leaves open.
    d_kernels.set_shape((kernel.shape[0] + recurrent_kernel.shape[0], kernel.shape[1]))
    d_parameters.set_shape(inputs["parameters"].shape)
    # [x, h]^T dz in one tensor: the rows of W, then those of U.
    d_kernel, d_recurrent = tf.split(d_kernels, [kernel.shape[0], recurrent_kernel.shape[0]])
    d_bias = d_bias if inputs["bias"].shape.num_elements() else None
    if d_bias is not None:
        d_bias.set_shape(inputs["bias"].shape)
    d_x = _gradient_of_x(x, kernel, d_gates, inputs["dropout"]) if of_x else None
    return [d_x, d_kernel, d_recurrent, d_bias, d_h0, d_c0, None, None, d_parameters, None]


def _gradient_of_x(x: Tensor, kernel: Tensor, d_gates: Tensor, dropout: Tensor) -> Tensor:
    """Compute d_gates W^T, which TensorFlow removes from a graph that does not use it.

    With dropout each gate received x times its own factors.
    """
    if dropout.shape.rank == 1:
        return tf.reshape(tf.matmul(d_gates, kernel, transpose_b=True), tf.shape(x))
    channels, d_x = kernel.shape[0], tf.zeros_like(x)
    for gate, (d_gate, columns) in enumerate(
        zip(tf.split(d_gates, 4, axis=1), tf.split(kernel, 4, axis=1), strict=True)
    ):
        d_masked = tf.reshape(tf.matmul(d_gate, columns, transpose_b=True), tf.shape(x))
        d_x += d_masked * dropout[gate][:, None, :channels]
    return d_x


def _second_gradient(op: Any, d_gates: Tensor, *upstream: Tensor) -> list[Tensor | None]:
    """Gradients of the sixteen inputs of ZooLstmGrad, through the recurrence in plain operations.

    The tensors that ZooLstm kept depend on the other inputs and get no gradient of their own.
    """
    inputs = dict(zip((*_INPUTS, *_KEPT, *_UPSTREAM), op.inputs, strict=True))
    present = [name for name in _INPUTS if name not in ("mask", "cell_clip") and _or_none(inputs[name]) is not None]
    watched = {name: inputs[name] for name in present}
    first_upstream = [inputs[name] for name in _UPSTREAM]
    # ZooLstmGrad returns the gradient of z, which is not an input of ZooLstm; an offset of 0 that is added to z has the
    # same gradient.
    z_offset = tf.zeros(tf.concat([tf.shape(inputs["x"])[:2], tf.shape(inputs["kernel"])[1:]], 0), inputs["x"].dtype)
    with tf.GradientTape(watch_accessed_variables=False) as outer:
        outer.watch([*watched.values(), *first_upstream])
        with tf.GradientTape(watch_accessed_variables=False) as inner:
            inner.watch([*watched.values(), z_offset])
            outputs = plain_lstm(*_call(op, inputs), z_offset)
        sources = {"gates": z_offset, **{name: watched[name] for name in present if name not in ("x", "dropout")}}
        first = inner.gradient(outputs, sources, first_upstream, tf.UnconnectedGradients.ZERO)
    d_bias, d_h0, d_c0, d_parameters, d_kernels = upstream
    d_kernel, d_recurrent = tf.split(d_kernels, [inputs["kernel"].shape[0], inputs["recurrent_kernel"].shape[0]])
    weights = {
        "gates": tf.reshape(d_gates, tf.shape(z_offset)),
        "kernel": d_kernel,
        "recurrent_kernel": d_recurrent,
        "bias": d_bias,
        "h0": d_h0,
        "c0": d_c0,
        "parameters": d_parameters,
    }
    gradients = outer.gradient(
        list(first.values()),
        {**watched, **dict(zip(_UPSTREAM, first_upstream, strict=True))},
        [weights[name] for name in first],
        tf.UnconnectedGradients.ZERO,
    )
    return [gradients.get(name) for name in (*_INPUTS, *_KEPT, *_UPSTREAM)]


def _call(op: Any, inputs: dict[str, Tensor]) -> tuple[Operands, Options]:
    """The operands and options of ZooLstm, from the inputs and attributes of ZooLstmGrad."""
    names = {code: name for name, code in bindings.codes().items()}
    learned = op.get_attr("learned")
    rows = [
        row if learned >> gate & 1 else tf.stop_gradient(row)
        for gate, row in enumerate(tf.unstack(inputs["parameters"], 5))
    ]
    operands = Operands(
        x=inputs["x"],
        kernel=inputs["kernel"],
        recurrent_kernel=inputs["recurrent_kernel"],
        bias=_or_none(inputs["bias"]),
        h=inputs["h0"],
        c=inputs["c0"],
        mask=_or_none(inputs["mask"]),
        dropout=_or_none(inputs["dropout"]),
        slopes=Gates(*[None] * 5),
    )
    clip = _or_none(inputs["cell_clip"])
    options = Options(
        activations=Gates(
            *(_function(names[code], row) for code, row in zip(op.get_attr("activations"), rows, strict=True))
        ),
        cell_clip=None if clip is None else tf.cast(clip, inputs["x"].dtype),
        **{name: op.get_attr(name) for name in ("go_backwards", "return_sequences", "zero_output_for_mask")},
    )
    return operands, options


def _or_none(tensor: Tensor) -> Tensor | None:
    """Undo `or_empty`: `None` for a tensor of shape (0,)."""
    return None if tensor.shape.rank == 1 and tensor.shape[0] == 0 else tensor


def _function(name: str, row: Tensor) -> Callable[[Tensor], Tensor]:
    """The activation `name` with `row`, (n,), as its parameter, if it has one."""
    definition = ACTIVATIONS[name]
    return functools.partial(definition.function, **dict.fromkeys(definition.parameters, row))


tf.RegisterGradient("ZooLstm")(_gradient)
tf.RegisterGradient("ZooLstmGrad")(_second_gradient)
