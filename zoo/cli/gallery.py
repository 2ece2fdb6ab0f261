"""The pictures and the page of the activations: `python -m zoo.cli.gallery` writes docs/activations.md from the table.

The answers to the claims on the page are doctests in `CLAIMS`, which a test runs.
"""

import sys
from pathlib import Path

import numpy as np

from zoo.activations import ACTIVATIONS, Activation, bind

PAGE = Path("docs/activations.md")
PICTURE = Path("pictures/activations.png")  # relative to the page

INTRODUCTION = f"""# Activations

Generated from the table in `zoo/activations/table.py` by `python -m zoo.cli.gallery`; `zoo activations --plot PNG`
draws the picture alone. Write a name, or a name with numbers ("leaky_relu(0.33)"), wherever a layer of the
zoo takes an activation.

![Each function and its derivative at the default parameters]({PICTURE})

Each function and, where it has one, its derivative, at the default parameters. Softmax depends on all logits: its panel
shows the share of one logit beside two that stay 0, and the diagonal entry of its Jacobian, s (1 - s).

## Properties

At the default parameters, which are shown. "Saturates" says on which side the slope tends to zero. The last four
columns say what the range means in each place:

- **gate** (input, forget, output): multiplies. A factor in [0, 1] lets through a share; outside it amplifies or
  turns the sign, and a forget gate above 1 multiplies the state anew at every step.
- **candidate**: is added to the cell state. An unbounded one needs `cell_clip` on long sequences; one that is never
  negative cannot take from the state.
- **output** (`hidden_activation`): bounds what leaves the cell, times the output gate.
- **dense**: no recurrence, so no bound is needed; what matters is that the slope does not vanish on both sides.
"""


def main() -> None:
    """Write the page and its picture into the `docs` folder of the current directory."""
    if not PAGE.parent.is_dir():
        sys.exit(f"there is no {PAGE.parent}/ here; run this in the root of the repository")
    PAGE.write_text(page())
    plot(PAGE.parent / PICTURE)
    print(PAGE, PAGE.parent / PICTURE)


def page() -> str:
    """The text of docs/activations.md."""
    columns = ["name", "formula", "range", "monotonic", "zero-centred", "saturates", "gate", "candidate", "output",
               "dense"]  # fmt: skip
    lines = [f"| {' | '.join(columns)} |", "|" + " --- |" * len(columns)]
    for name in ACTIVATIONS:
        lines.append(f"| {' | '.join(_cells(bind(name)))} |")
    sources = [f"- `{name}`: {row.source}" for name, row in ACTIVATIONS.items()]
    claims = [f"### {claim}\n\n{answer.strip()}\n" for claim, answer in CLAIMS.items()]
    parts = [INTRODUCTION, *lines, "", "## Sources", "", *sources, "", "## Claims that are often read", "", CLAIMS_HEAD]
    return "\n".join([*parts, *claims])


def _cells(activation: Activation) -> list[str]:
    row = activation.definition
    values = ", ".join(f"{key}={value:.3g}" for key, value in activation.parameters)
    flags = ["yes" if flag else "no" for flag in (row.monotonic, row.zero_centred)]
    interval = f"{_bound(activation.lower)} .. {_bound(activation.upper)}"
    name = f"`{row.name}`" + (f" ({values})" if values else "")
    formula = row.formula.replace("|", "\\|")
    return [name, f"`{formula}`", interval, *flags, row.saturates, *_uses(activation)]


def _bound(value: float) -> str:
    return f"{value:.4g}"


def _uses(activation: Activation) -> list[str]:
    """The meaning of the range in a gate, a candidate, an output and a dense layer."""
    lower, upper, row = activation.lower, activation.upper, activation.definition
    if not row.elementwise:
        return ["shares that sum to 1 over the units", "as the gate", "as the gate", "classes at the end"]
    share = lower >= 0 and upper <= 1
    gate = "share" if share else ("amplifies without bound" if upper == np.inf else f"up to x{upper:.3g}")
    if lower < 0:
        gate += ", turns signs"
    candidate = "bounded" if activation.bounded else "unbounded: `cell_clip`"
    if lower >= 0:
        candidate += ", only adds"
    output = "bounded" if activation.bounded else "unbounded"
    dense = {"both": "vanishes on both sides", "left": "flat on the left", "right": "flat on the right"}
    return [
        gate,
        candidate,
        output,
        dense.get(row.saturates, "never flat" if row.name != "linear" else "no non-linearity"),
    ]


def curves(activation: Activation, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The function and its derivative at the numbers `x`.

    For softmax, which has a Jacobian instead: the share of one logit x beside two logits of 0, and the diagonal entry
    of the Jacobian.

    Example:
    >>> [round(float(values[0]), 3) for values in curves(bind("softmax"), np.zeros(1))]
    [0.333, 0.222]
    """
    from keras import ops

    if activation.definition.elementwise:
        tensor, learnable = ops.convert_to_tensor(x.astype("float32")), activation.definition.learnable
        slope = {learnable: dict(activation.parameters)[learnable]} if learnable else {}
        results = activation(tensor, **slope), activation.derivative(tensor, **slope)
    else:
        logits = ops.convert_to_tensor(np.stack([x, 0 * x, 0 * x], axis=-1).astype("float32"))
        first = ops.convert_to_tensor(np.tile(np.eye(1, 3, dtype="float32"), (len(x), 1)))
        results = activation(logits)[:, 0], activation.vjp(logits, first)[:, 0]
    return ops.convert_to_numpy(results[0]), ops.convert_to_numpy(results[1])


def plot(path: Path) -> None:
    """Draw every function of the table and its derivative into `path`, one panel each."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    x = np.linspace(-6, 8, 1401)
    width = 6
    height = -(-len(ACTIVATIONS) // width)
    figure = Figure(figsize=(2.4 * width, 2.3 * height), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(height, width).ravel()
    for panel, name in zip(panels, ACTIVATIONS, strict=False):
        values, slopes = curves(bind(name), x)
        panel.axhline(0, color="0.8", linewidth=0.8)
        panel.axvline(0, color="0.8", linewidth=0.8)
        panel.plot(x, values, color="C0", label="function")
        panel.plot(x, slopes, color="C1", label="derivative")
        panel.set(ylim=(-2, 7) if name == "relu6" else (-2, 2.5), xticks=(-5, 0, 5))
        panel.set_title(name if ACTIVATIONS[name].elementwise else f"{name}: one logit of three,\nthe others 0")
    for panel in panels[len(ACTIVATIONS) :]:
        panel.set_axis_off()
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower right", ncols=2)
    path.parent.mkdir(parents=True, exist_ok=True)
    # The names in the picture, so that a test can detect an outdated picture.
    figure.savefig(path, dpi=110, metadata={"Description": ", ".join(ACTIVATIONS)})


CLAIMS_HEAD = """Each is false; the snippet shows it, and a test runs the snippets.
"""

CLAIMS = {
    '"ReLU keeps a gate\'s output between 0 and 1"': """
Its range is [0, inf). A forget gate of 1.5 multiplies the cell state by 1.5 at every step.

```python
>>> import numpy as np
>>> from zoo.activations import get
>>> get("relu").upper, get("relu6").upper, get("hard_sigmoid").upper
(inf, 6.0, 1.0)
>>> forget = float(get("relu")(np.float32(1.5)))
>>> round(forget ** 50)
637621500

```
""",
    "\"Sigmoid's gradient is large where its value is near 0 or 1\", and sigmoid' = s(s - 1)": """
It is largest, 1/4, where the value is 1/2, and vanishes at both ends. The derivative is s(1 - s); with the sign
turned it would be negative everywhere, and sigmoid never falls.

```python
>>> sigmoid = get("sigmoid")
>>> x = np.array([-8.0, 0.0, 8.0], "float32")
>>> [round(float(s), 4) for s in sigmoid(x)]
[0.0003, 0.5, 0.9997]
>>> [round(float(slope), 4) for slope in sigmoid.derivative(x)]
[0.0003, 0.25, 0.0003]
>>> step = 0.01
>>> bool((sigmoid(x + step) - sigmoid(x - step))[1] / (2 * step) > 0)
True

```
""",
    '"Tanh bounds the cell state"': """
It bounds what is added in one step, and what leaves. The state is the sum: with open gates it grows by up to 1 a step.

```python
>>> from zoo.kernels.reference import lstm_step
>>> from zoo.types import Gates
>>> def run(functions, steps, z=(9.0, 9.0, 9.0, 9.0), cell=0.0):
...     cell = np.full((1, 1), cell, "float32")
...     for _ in range(steps):
...         hidden, cell = lstm_step([np.full((1, 1), v, "float32") for v in z], cell, functions)
...     return round(float(hidden[0, 0]), 2), round(float(cell[0, 0]), 1)
>>> standard = Gates(sigmoid, sigmoid, get("tanh"), sigmoid, get("tanh"))
>>> run(standard, steps=100)
(1.0, 99.4)

```
""",
    '"With a sigmoid as candidate the state can only grow"': """
It can only be *added to*; the forget gate still takes away, and with it shut the state goes down.

```python
>>> positive = Gates(sigmoid, sigmoid, sigmoid, sigmoid, get("tanh"))
>>> run(positive, steps=1, z=(-9.0, -9.0, 9.0, 9.0), cell=10.0)[1]
0.0

```
""",
    '"The second tanh is unnecessary"': """
Without it ("linear") what leaves the cell, and comes back through the recurrence, is as large as the state. Of the
parts that Greff et al. (2017) took out one by one, this and the forget gate were the ones that hurt most.

```python
>>> without = standard._replace(hidden=get("linear"))
>>> run(standard, steps=100)[0], run(without, steps=100)[0] > 99
(1.0, True)

```
""",
    '"Gradient checking means watching the size of the gradient"': """
It means comparing it with differences of the function. A wrong gradient can have any size: this one, of the wrong
sign, has exactly the right one.

```python
>>> wrong = -sigmoid.derivative(x)
>>> right = sigmoid.derivative(x)
>>> bool(np.allclose(abs(wrong), abs(right)))
True
>>> numeric = (sigmoid(x + step) - sigmoid(x - step)) / (2 * step)
>>> bool(np.allclose(right, numeric, atol=1e-4)), bool(np.allclose(wrong, numeric, atol=1e-4))
(True, False)

```
""",
}

if __name__ == "__main__":
    main()
