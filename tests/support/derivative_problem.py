"""An LSTM with masked steps, and every derivative of it from the equations in NumPy and float64."""

import numpy as np
from oracles import lstm_gradients

STANDARD = ("sigmoid", "sigmoid", "tanh", "sigmoid", "tanh")
OTHERS = ("hard_sigmoid", "softsign", "leaky_relu", "elliott", "silu")  # leaky_relu and hard_sigmoid have kinks
BATCH, STEPS, CHANNELS, UNITS = 2, 3, 2, 2
MASKED = 9.0
MASK = np.array([[1, 0, 1], [1, 1, 0]], bool)


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
