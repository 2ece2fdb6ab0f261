"""Every derivative of an LSTM by every engine, against differences of the equations in NumPy and float64.

    KERAS_BACKEND=jax python tests/support/derivatives.py     # writes this backend's rows of docs/compatibility.md

A cell of the table is "right" within the bound, or "refused" by an error that names `engine="reference"`; anything else
raises. What Keras's own layer answers with an error is "fails" in its row, and may be one in ours.
"""

import contextlib
import functools
import tempfile
from pathlib import Path

import keras
import numpy as np
import pytest
from cuda_emulation import install
from cudnn_stand_in import stand_in
from gradients import float64
from keras import ops
from oracles import lstm_gradients

from zoo.layers import LSTM
from zoo.layers.lstm_cell import GATES

BACKEND = keras.backend.backend()
PAGE = Path(__file__).parents[2] / "docs" / "compatibility.md"
BEGIN, END = "<!-- derivatives: begin -->", "<!-- derivatives: end -->"
KERAS = "keras.layers.LSTM"
ENGINES = {
    "tensorflow": (KERAS, "reference", "native", "loop", "cudnn"),
    "jax": (KERAS, "reference", "loop", "cudnn", "cuda"),
    "torch": (KERAS, "reference", "loop", "cudnn", "cuda"),
}
FLOAT32 = {("jax", "cudnn"), ("jax", "cuda"), ("torch", "cuda")}
STANDARD = ("sigmoid", "sigmoid", "tanh", "sigmoid", "tanh")
OTHERS = ("hard_sigmoid", "softsign", "leaky_relu", "elliott", "silu")  # leaky_relu and hard_sigmoid have kinks
BATCH, STEPS, CHANNELS, UNITS = 2, 3, 2, 2
MASKED = 9.0
MASK = np.array([[1, 0, 1], [1, 1, 0]], bool)


# === What is right: the equations in NumPy ===


class Problem:
    """An LSTM with masked steps: its numbers, and every derivative from the equations, by the names of the columns."""

    def __init__(self, names=STANDARD):
        rng = np.random.default_rng(3)
        self.names = names
        self.x = rng.normal(size=(BATCH, STEPS, CHANNELS))
        self.x[~MASK] = MASKED
        shapes = (CHANNELS, 4 * UNITS), (UNITS, 4 * UNITS), (4 * UNITS,)
        self.weights = [rng.normal(size=shape).astype("float16").astype("float64") * 0.5 for shape in shapes]
        self.u = rng.normal(size=(BATCH, STEPS, UNITS))
        self.direction = rng.normal(size=self.x.shape)

    def gradients(self, x, *weights, u=None):
        """Of sum(outputs * u), for x and the weights."""
        zeros = np.zeros((BATCH, UNITS))
        return lstm_gradients(x, weights, self.names, self.u if u is None else u, MASK, zeros, zeros)[:4]

    def penalty(self, *sources):
        slopes = self.gradients(*sources, u=np.ones_like(self.u))[0]
        return ((np.sqrt((slopes**2).sum((1, 2))) - 1) ** 2).mean()

    def first(self):
        return self.gradients(self.x, *self.weights)

    def second(self):
        sources = [self.x.copy(), *(weight.copy() for weight in self.weights)]
        return [differences(lambda: self.penalty(*sources), source) for source in sources]

    def hessian(self):
        x = self.x.copy()
        return [differences(lambda: self.gradients(x, *self.weights)[0], x).reshape(x.size, x.size)]

    def jacobian(self):
        rows = np.eye(self.u.size).reshape(-1, *self.u.shape)
        return [np.stack([self.gradients(self.x, *self.weights, u=row)[0] for row in rows]).reshape(len(rows), -1)]

    def forward(self):
        return [self.jacobian()[0] @ self.direction.ravel()]

    def vmap(self):
        def of_row(row):
            one = np.arange(BATCH)[:, None, None] == row
            return self.gradients(self.x, *self.weights, u=self.u * one)[1]

        return [np.stack([of_row(row) for row in range(BATCH)])]

    saved = first


def differences(function, at, step=1e-6):
    """The derivative of `function()` for each number of `at`, which it reads: (*at.shape, *result.shape)."""
    found = []
    for place in np.ndindex(at.shape):
        held, values = at[place], []
        for moved in (held + step, held - step):
            at[place] = moved
            values.append(function())
        at[place] = held
        found.append((values[0] - values[1]) / (2 * step))
    return np.array(found).reshape(*at.shape, *np.shape(found[0]))


COLUMNS = {
    "first": "first",
    "second": "second, by inputs and weights",
    "hessian": "Hessian",
    "jacobian": "Jacobian",
    "forward": "forward mode",
    "vmap": "`vmap` of gradients",
    "saved": "first, through a SavedModel",
}


# === What a layer gives ===


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


# === The table ===


@contextlib.contextmanager
def available(engine):
    """Puts what stands in for a GPU in its place."""
    with pytest.MonkeyPatch.context() as patch:
        if engine == "cudnn":
            stand_in(patch)
        if engine == "cuda":
            install(patch, Path(_emulator().name))
        yield


@functools.cache
def _emulator():
    """The folder of the emulator, which takes half a minute to build."""
    return tempfile.TemporaryDirectory()


def made(engine, problem, dtype):
    arguments = {f"{gate}_activation": name for gate, name in zip(GATES, problem.names, strict=True)}
    kind = functools.partial(LSTM, engine=engine, **arguments)
    layer = (keras.layers.LSTM if engine == KERAS else kind)(UNITS, return_sequences=True, dtype=dtype)
    layer.build((None, None, CHANNELS))
    for weight, value in zip(layer.trainable_weights, problem.weights, strict=True):
        weight.assign(value)
    return layer


def outcome(engine, column, names=STANDARD, compiled=BACKEND == "jax"):
    """What a cell says: "right", "refused" or, where Keras has no answer, "fails".

    Raises:
        AssertionError: The numbers are wrong, or there are none and the error does not name the way out.
    """
    problem = Problem(names)
    single = column == "saved" or (BACKEND, engine) in FLOAT32
    with available(engine), contextlib.nullcontext() if single else float64():
        layer = made(engine, problem, "float32" if single else "float64")
        try:
            if column == "saved":
                found = reloaded(layer, problem)
            else:
                on = {"tensorflow": OnTensorFlow, "jax": OnJax, "torch": OnTorch}[BACKEND]
                found = getattr(on(layer, problem, compiled), column)()
        except Exception as error:
            if 'engine="reference"' in str(error):
                return "refused"
            if engine == KERAS or outcome(KERAS, column, names, compiled) == "fails":
                return "fails"
            raise AssertionError(f"{engine}, {column}: {error!r}") from error
        expected = getattr(problem, column)()
    # float64 within what central differences lose, but for what Keras computes in float32 (tanh on JAX, products on
    # torch); float32; the CUDA engine, which rounds what the recurrent product multiplies to half precision.
    bound = 5e-3 if engine == "cuda" else 1e-4 if single else 1e-6 if BACKEND == "tensorflow" else 2e-5
    for ours, theirs in zip(found, expected, strict=True):
        assert ours is not None, f"{engine}, {column}: no gradient"
        ours = ops.convert_to_numpy(ours) if column != "saved" else ours.numpy()
        scale = max(1.0, float(np.abs(theirs).max()))
        np.testing.assert_allclose(ours / scale, theirs / scale, rtol=0, atol=bound, err_msg=f"{engine}, {column}")
    return "right"


def rows():
    """This backend's rows of the table, as the page has them."""
    return [row(engine) for engine in ENGINES[BACKEND]]


def row(engine):
    name = f"`{engine}`" if engine == KERAS else f'`engine="{engine}"`'
    return f"| {BACKEND} | {name} | " + " | ".join(outcome(engine, column) for column in COLUMNS) + " |"


def committed():
    """The lines of the table in the page."""
    text = PAGE.read_text(encoding="utf-8")
    return text[text.index(BEGIN) + len(BEGIN) : text.index(END)].strip().splitlines()


def write():
    kept = [line for line in committed()[2:] if not line.startswith(f"| {BACKEND} |")]
    head = ["| backend | layer | " + " | ".join(COLUMNS.values()) + " |", "| --- | --- |" + " --- |" * len(COLUMNS)]
    order = list(ENGINES)
    body = sorted([*kept, *rows()], key=lambda line: order.index(line.split(" | ")[0].strip("| ")))
    text = PAGE.read_text(encoding="utf-8")
    before, after = text[: text.index(BEGIN)], text[text.index(END) :]
    PAGE.write_text("\n".join([before + BEGIN, *head, *body, after]), encoding="utf-8")


if __name__ == "__main__":
    write()
