"""Gradients by whatever Keras runs on: a test says what to call and gets NumPy arrays back."""

import contextlib

import keras
from keras import ops


def outputs_and_gradients(call, inputs, variables, upstream):
    """What `call` gives, and the gradients of sum(outputs * upstream).

    Args:
        call: Takes the tensors of `inputs`; gives a tensor, or a list of some.
        inputs: Arrays.
        variables: Keras variables that `call` reads.
        upstream: Takes the place and the shape of an output; gives the array of its weights in the sum.

    Returns:
        Lists of arrays: the outputs; the gradients of the inputs and then of the variables, zeros where there is none.
    """
    run = {"tensorflow": _on_tensorflow, "jax": _on_jax, "torch": _on_torch}[keras.backend.backend()]
    inputs = [ops.convert_to_tensor(array) for array in inputs]

    def loss_and_outputs(tensors):
        outputs = keras.tree.flatten(call(*tensors))
        weighed = (
            ops.sum(output * ops.convert_to_tensor(upstream(k, output.shape), dtype=output.dtype))
            for k, output in enumerate(outputs)
        )
        return sum(weighed), outputs

    outputs, gradients = run(loss_and_outputs, inputs, variables)
    return [[_array(tensor) for tensor in found] for found in (outputs, gradients)]


def _array(tensor):
    half = keras.backend.standardize_dtype(tensor.dtype) in ("float16", "bfloat16")
    return ops.convert_to_numpy(ops.cast(tensor, "float32") if half else tensor)


def _on_tensorflow(loss_and_outputs, inputs, variables):
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(inputs)
        loss, outputs = loss_and_outputs(inputs)
    sources = [*inputs, *(variable.value for variable in variables)]
    return outputs, tape.gradient(loss, sources, unconnected_gradients=tf.UnconnectedGradients.ZERO)


def _on_torch(loss_and_outputs, inputs, variables):
    import torch

    inputs = [tensor.detach().requires_grad_() for tensor in inputs]
    loss, outputs = loss_and_outputs(inputs)
    sources = [*inputs, *(variable.value for variable in variables)]
    return outputs, torch.autograd.grad(loss, sources, allow_unused=True, materialize_grads=True)


def _on_jax(loss_and_outputs, inputs, variables):
    import jax

    def run(inputs, values):
        def loss_of(inputs, values):
            with keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))):
                return loss_and_outputs(inputs)

        (_, outputs), gradients = jax.value_and_grad(loss_of, argnums=(0, 1), has_aux=True)(inputs, values)
        return outputs, [*gradients[0], *gradients[1]]

    # It runs once: what XLA would spend on fast code is lost.
    compiled = jax.jit(run, compiler_options={"xla_backend_optimization_level": 0})
    return compiled(inputs, [variable.value for variable in variables])


def float64():
    """A context in which JAX has float64 too; the other backends always do."""
    if keras.backend.backend() != "jax":
        return contextlib.nullcontext()
    import jax

    return jax.enable_x64(True)
