"""The LSTM family once more, in NumPy and float64: one step a cell, one loop, and central differences.

A step takes (weights, x, states) and gives the new states; the first state is the output. `weights` are arrays by
name, `blocks` of columns are in the order of the gates that a cell has; `a` are the five activations by their letter
in the equations, h for that of the cell state on its way out.
"""

import numpy as np
from scipy.special import expit as sigmoid

STANDARD = {"i": sigmoid, "f": sigmoid, "g": np.tanh, "o": sigmoid, "h": np.tanh}


def unroll(step, weights, x, states, mask=None):
    """Every output, (batch, steps, width): a masked step repeats the one before (zeros first) and holds the states."""
    mask = np.ones(x.shape[:2], bool) if mask is None else mask
    output, outputs = np.zeros_like(states[0]), []
    for t in range(x.shape[1]):
        keep = mask[:, t : t + 1]
        new = step(weights, x[:, t], states)
        states = [np.where(keep, after, before) for after, before in zip(new, states, strict=True)]
        output = np.where(keep, new[0], output)
        outputs.append(output)
    return np.stack(outputs, 1)


def _columns(z, number):
    return np.split(z, number, axis=1)


def _z(w, x, h, number):
    return _columns(x @ w["kernel"] + h @ w["recurrent_kernel"] + w["bias"], number)


def _layer_norm(a, gain, bias, epsilon):
    return gain * (a - a.mean(1, keepdims=True)) / np.sqrt(a.var(1, keepdims=True) + epsilon) + bias


def layer_norm(w, x, states, epsilon=1e-5, a=STANDARD):
    h, c = states
    z = _layer_norm(x @ w["kernel"], w["input_gain"], w["input_norm_bias"], epsilon)
    z = z + _layer_norm(h @ w["recurrent_kernel"], w["recurrent_gain"], w["recurrent_norm_bias"], epsilon) + w["bias"]
    i, f, g, o = _columns(z, 4)
    c = a["f"](f) * c + a["i"](i) * a["g"](g)
    return [a["o"](o) * a["h"](_layer_norm(c, w["cell_gain"], w["cell_norm_bias"], epsilon)), c]


def coupled(w, x, states, a=STANDARD):
    h, c = states
    i, g, o = _z(w, x, h, 3)
    c = (1 - a["i"](i)) * c + a["i"](i) * a["g"](g)
    return [a["o"](o) * a["h"](c), c]


def projected(w, x, states, a=STANDARD):
    r, c = states
    i, f, g, o = _z(w, x, r, 4)
    c = a["f"](f) * c + a["i"](i) * a["g"](g)
    return [(a["o"](o) * a["h"](c)) @ w["projection_kernel"], c]


def peephole(w, x, states, a=STANDARD):
    return variant("V")(w, x, states, a)


def variant(name):
    """The step of a variant of Greff et al. (2017), "V" for their base."""

    def step(w, x, states, a=STANDARD):
        h, c = states[:2]
        gates = [gate for gate in "ifo" if gate != {"NIG": "i", "NFG": "f", "NOG": "o", "CIFG": "f"}.get(name)]
        order = [gate for gate in "ifgo" if gate == "g" or gate in gates]
        z = dict(zip(order, _z(w, x, h, len(order)), strict=True))
        peep = dict.fromkeys("ifo", 0.0)
        if name != "NP":
            peep |= dict(zip(gates, np.split(w["peephole"], len(gates)), strict=True))
        if name == "FGR":
            for source, state in zip("ifo", states[2:], strict=True):
                for target in "ifo":
                    rows, columns = "ifo".index(source) * h.shape[1], "ifo".index(target) * h.shape[1]
                    block = w["gate_recurrent_kernel"][rows : rows + h.shape[1], columns : columns + h.shape[1]]
                    z[target] = z[target] + state @ block
        one = np.ones_like(c)
        i = a["i"](z["i"] + peep["i"] * c) if "i" in gates else one
        f = a["f"](z["f"] + peep["f"] * c) if "f" in gates else (1 - i if name == "CIFG" else one)
        c = f * c + i * (z["g"] if name == "NIAF" else a["g"](z["g"]))
        o = a["o"](z["o"] + peep["o"] * c) if "o" in gates else one
        new = [o * (c if name == "NOAF" else a["h"](c)), c]
        return [*new, i, f, o] if name == "FGR" else new

    return step


def lstm_with_zoneout(z_h, z_c):
    """The expectation of one step, the rule at inference."""

    def step(w, x, states):
        h, c = states
        i, f, g, o = _z(w, x, h, 4)
        new_c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        new_h = sigmoid(o) * np.tanh(new_c)
        return [z_h * h + (1 - z_h) * new_h, z_c * c + (1 - z_c) * new_c]

    return step


def batch_norm(w, x, mask=None, moments=None, epsilon=1e-3, a=STANDARD):
    """Recurrent batch normalisation: every output, and the moments of each step.

    Each row is reduced to its valid steps; at step t the rows that still have one make the statistics, unless
    `moments` (a list over steps, of what this function returns) gives them.
    """
    mask = np.ones(x.shape[:2], bool) if mask is None else mask
    rows, units = [row[keep] for row, keep in zip(x, mask, strict=True)], w["recurrent_kernel"].shape[0]
    h, c, found = np.zeros((len(x), units)), np.zeros((len(x), units)), []
    made = [[] for _ in rows]
    for t in range(max(map(len, rows))):
        alive = [k for k, row in enumerate(rows) if len(row) > t]
        used = {} if moments is None else moments[t]

        def norm(name, value, used=used):
            mean, variance = used.setdefault(name, (value.mean(0), value.var(0)))
            return w[f"{name}_gamma"] * (value - mean) / np.sqrt(variance + epsilon)

        z = norm("input", np.stack([rows[k][t] for k in alive]) @ w["kernel"])
        z = z + norm("recurrent", h[alive] @ w["recurrent_kernel"]) + w["bias"]
        i, f, g, o = _columns(z, 4)
        c[alive] = a["f"](f) * c[alive] + a["i"](i) * a["g"](g)
        h[alive] = a["o"](o) * a["h"](norm("cell", c[alive]) + w["cell_beta"])
        found.append(used)
        for k in alive:
            made[k].append(h[k].copy())
    outputs = np.zeros((*x.shape[:2], units))
    for k, keep in enumerate(mask):
        latest = np.cumsum(keep) - 1
        for t, place in enumerate(latest):
            if place >= 0:
                outputs[k, t] = made[k][place]
    return outputs, found


def central_differences(function, arrays, step=1e-5):
    """The gradient of `function()` with respect to each of `arrays`, which it reads and which are moved in place."""
    gradients = []
    for array in arrays:
        gradient = np.zeros_like(array)
        for place in np.ndindex(array.shape):
            before = array[place]
            array[place] = before + step
            above = function()
            array[place] = before - step
            gradient[place] = (above - function()) / (2 * step)
            array[place] = before
        gradients.append(gradient)
    return gradients
