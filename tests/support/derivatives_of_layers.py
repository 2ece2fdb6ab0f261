"""Every derivative of a layer, as each backend computes it, by the names of the columns of the table."""

import functools
import tempfile

import keras
import numpy as np
from derivative_problem import BATCH, CHANNELS, MASK, MASKED, Problem
from keras import ops

BACKEND = keras.backend.backend()


def penalty(slopes, reduce_sum, sqrt):
    return reduce_sum((sqrt(reduce_sum(slopes**2, (1, 2))) - 1) ** 2) / BATCH


class OnTensorFlow:
    def __init__(self, layer, problem, compiled=False, **arguments):
        import tensorflow as tf

        self.tf, self.layer, self.arguments = tf, layer, arguments
        self.x, self.u, self.direction = (
            tf.constant(a, layer.dtype) for a in (problem.x, problem.u, problem.direction)
        )
        self.mask, self.weights = tf.constant(MASK), [weight.value for weight in layer.trainable_weights]
        self.wrap = functools.partial(tf.function, autograph=False) if compiled else lambda function: function

    def call(self, x):
        return self.layer(x, mask=self.mask, **self.arguments)

    def loss(self, x):
        return self.tf.reduce_sum(self.call(x) * self.u)

    def gradient(self, function, x, sources=()):
        with self.tf.GradientTape() as tape:
            tape.watch(x)
            y = function(x)
        return tape.gradient(y, [x, *sources] if sources else x)

    def first(self):
        return self.wrap(lambda x: self.gradient(self.loss, x, self.weights))(self.x)

    def second(self):
        def penalty_of(x):
            slopes = self.gradient(self.call, x)
            return penalty(slopes, self.tf.reduce_sum, self.tf.sqrt)

        return self.wrap(lambda x: self.gradient(penalty_of, x, self.weights))(self.x)

    def hessian(self):
        return [self.jacobian_of(lambda x: self.gradient(self.loss, x))]

    def jacobian(self):
        return [self.jacobian_of(self.call)]

    def jacobian_of(self, function):
        def found(x):
            with self.tf.GradientTape() as tape:
                tape.watch(x)
                y = function(x)
            return tape.jacobian(y, x)

        return self.tf.reshape(self.wrap(found)(self.x), (-1, self.tf.size(self.x)))

    def forward(self):
        def found(x):
            with self.tf.autodiff.ForwardAccumulator(x, self.direction) as accumulator:
                y = self.call(x)
            return accumulator.jvp(y)

        return [self.tf.reshape(self.wrap(found)(self.x), -1)]

    def vmap(self):
        def of_row(row):
            x, mask, u = row
            with self.tf.GradientTape() as tape:
                y = self.tf.reduce_sum(self.layer(x[None], mask=mask[None])[0] * u)
            return tape.gradient(y, self.weights[0])

        return [self.wrap(lambda *rows: self.tf.vectorized_map(of_row, rows))(self.x, self.mask, self.u)]


class OnJax:
    def __init__(self, layer, problem, compiled=True, **arguments):
        import jax

        self.jax, self.layer, self.arguments = jax, layer, arguments
        self.x, self.u, self.direction = (
            ops.convert_to_tensor(a, layer.dtype) for a in (problem.x, problem.u, problem.direction)
        )
        self.mask = jax.numpy.asarray(MASK)
        self.weights = [weight.value for weight in layer.trainable_weights]

    def call(self, x, weights=None, mask=None):
        state = [weight.value for weight in self.layer.non_trainable_variables]
        weights = self.weights if weights is None else weights
        mask = self.mask if mask is None else mask
        return self.layer.stateless_call(weights, state, x, mask=mask, **self.arguments)[0]

    def loss(self, x, weights):
        return (self.call(x, weights) * self.u).sum()

    def run(self, function, *arguments):
        return self.jax.tree.leaves(self.jax.jit(function)(*arguments))

    def first(self):
        return self.run(self.jax.grad(self.loss, (0, 1)), self.x, self.weights)

    def second(self):
        def penalty_of(x, weights):
            slopes = self.jax.grad(lambda x: self.call(x, weights).sum())(x)
            return penalty(slopes, self.jax.numpy.sum, self.jax.numpy.sqrt)

        return self.run(self.jax.grad(penalty_of, (0, 1)), self.x, self.weights)

    def hessian(self):
        [found] = self.run(self.jax.hessian(lambda x: self.loss(x, self.weights)), self.x)
        return [found.reshape(self.x.size, -1)]

    def jacobian(self):
        [found] = self.run(self.jax.jacrev(self.call), self.x)
        return [found.reshape(-1, self.x.size)]

    def forward(self):
        def found(x, direction):
            return self.jax.jvp(self.call, (x,), (direction,))[1].ravel()

        return self.run(found, self.x, self.direction)

    def vmap(self):
        def of_row(weights, x, mask, u):
            return (self.call(x[None], weights, mask[None])[0] * u).sum()

        found = self.jax.vmap(self.jax.grad(of_row), (None, 0, 0, 0))
        return self.run(found, self.weights, self.x, self.mask, self.u)[:1]


class OnTorch:
    def __init__(self, layer, problem, compiled=False, **arguments):
        import torch

        self.torch, self.layer, self.arguments = torch, layer, arguments
        dtype = getattr(torch, layer.dtype)
        self.x, self.u, self.direction = (
            torch.tensor(a, dtype=dtype) for a in (problem.x, problem.u, problem.direction)
        )
        self.mask, self.weights = torch.tensor(MASK), [weight.value for weight in layer.trainable_weights]

    def call(self, x):
        return self.layer(x, mask=self.mask, **self.arguments)

    def loss(self, x):
        return (self.call(x) * self.u).sum()

    def sources(self):
        x = self.x.clone().requires_grad_()
        return x, [x, *self.weights]

    def first(self):
        x, sources = self.sources()
        return self.torch.autograd.grad(self.loss(x), sources)

    def second(self):
        x, sources = self.sources()
        [slopes] = self.torch.autograd.grad(self.call(x).sum(), x, create_graph=True)
        return self.torch.autograd.grad(penalty(slopes, self.torch.sum, self.torch.sqrt), sources)

    def hessian(self):
        size = self.x.numel()
        both = self.torch.autograd.functional.hessian, lambda f, x: self.torch.func.hessian(f)(x)
        return agreed([find(self.loss, self.x).reshape(size, size) for find in both])

    def jacobian(self):
        functional, func = self.torch.autograd.functional, self.torch.func
        found = [
            functional.jacobian(self.call, self.x),
            functional.jacobian(self.call, self.x, vectorize=True),
            func.jacrev(self.call)(self.x),
            func.jacfwd(self.call)(self.x),
        ]
        return agreed([jacobian.reshape(-1, self.x.numel()) for jacobian in found])

    def forward(self):
        from torch.autograd import forward_ad

        found = [self.torch.func.jvp(self.call, (self.x,), (self.direction,))[1]]
        with forward_ad.dual_level():
            found.append(forward_ad.unpack_dual(self.call(forward_ad.make_dual(self.x, self.direction))).tangent)
        return agreed([tangent.reshape(-1) for tangent in found])

    def vmap(self):
        state = [variable.value for variable in self.layer.non_trainable_variables]

        def of_row(kernel, x, mask, u):
            weights = [kernel, *self.weights[1:]]
            return (self.layer.stateless_call(weights, state, x[None], mask=mask[None])[0][0] * u).sum()

        found = self.torch.func.vmap(self.torch.func.grad(of_row), (None, 0, 0, 0))
        return [found(self.weights[0].detach(), self.x, self.mask, self.u)]


def agreed(found):
    """One of some ways to the same numbers."""
    for other in found[1:]:
        np.testing.assert_allclose(other.detach().numpy(), found[0].detach().numpy(), rtol=0, atol=1e-5)
    return found[:1]


def reloaded(layer, problem):
    """First gradients by TensorFlow of a model that Keras exported and that is loaded again."""
    import tensorflow as tf

    inputs = keras.Input((None, CHANNELS))
    model = keras.Model(inputs, layer(keras.layers.Masking(MASKED)(inputs)))
    with tempfile.TemporaryDirectory() as folder:
        model.export(folder, format="tf_saved_model", verbose=False)
        served = tf.saved_model.load(folder)
    x = tf.constant(problem.x, layer.dtype)
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = tf.reduce_sum(served.serve(x) * tf.constant(problem.u, layer.dtype))
    return tape.gradient(loss, [x, *served.trainable_variables])


def nested(function, order):
    """The gradient of sum(sin(the gradient of ...)), `order` times, of `function`, which gives a number."""
    x = ops.convert_to_tensor(Problem().x, "float32")
    if BACKEND == "jax":
        import jax

        for _ in range(order):
            function = functools.partial(lambda of, x: jax.numpy.sum(jax.numpy.sin(of(x))), jax.grad(function))
        return ops.convert_to_numpy(jax.jit(jax.grad(function))(x))
    if BACKEND == "torch":
        import torch

        x.requires_grad_()
        y = function(x)
        for _ in range(order):
            y = torch.autograd.grad(y, x, create_graph=True)[0].sin().sum()
        return torch.autograd.grad(y, x)[0].numpy()
    import tensorflow as tf

    def derivative(function):
        def found(x):
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = function(x)
            return tape.gradient(y, x)

        return found

    for _ in range(order):
        function = functools.partial(lambda of, x: tf.reduce_sum(tf.sin(of(x))), derivative(function))
    return derivative(function)(x).numpy()


def of_layer(layer, problem, compiled, **arguments):
    """The derivatives of `layer` on this backend, each by a method."""
    on = {"tensorflow": OnTensorFlow, "jax": OnJax, "torch": OnTorch}[BACKEND]
    return on(layer, problem, compiled, **arguments)
