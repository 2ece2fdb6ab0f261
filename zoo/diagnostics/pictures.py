"""Pictures of the reports. Figures are made without pyplot, and so without a screen or global state."""

from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.diagnostics.flow import GradientFlow
from zoo.diagnostics.gates import CLOSED, LARGE, OPEN, GateReport, GateStatistics

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GOOD, BAD, MIDDLE = "#1b6ca8", "#c0392b", "#d9d9d9"
SMALLEST = 1e-12  # smaller gradients are drawn like this one, since a logarithmic colour scale has no zero


def plot_gradient_flow(report: GradientFlow) -> "Figure":
    """Draw a heat map of |dL/dh|: a row for each recurrent layer, a column for each step, a logarithmic scale."""
    from matplotlib.colors import LogNorm

    figure = _figure(height=1.6 + 0.55 * len(report.layers))
    axes: Any = figure.subplots()
    shown = np.where(np.isfinite(report.norms), np.maximum(report.norms, SMALLEST), np.nan)
    known = shown[np.isfinite(shown)]
    lowest, highest = (known.min(), known.max()) if known.size else (SMALLEST, 1.0)
    norm = LogNorm(lowest, max(highest, 10 * lowest))
    image = axes.imshow(np.ma.masked_invalid(shown), aspect="auto", cmap="viridis", norm=norm, interpolation="nearest")
    axes.set_facecolor(MIDDLE)  # masked steps
    labels = [f"{name}\n{verdict}" for name, verdict in zip(report.layers, report.verdicts, strict=True)]
    axes.set_yticks(range(len(labels)), labels)
    axes.set(xlabel="step of the sequence", title="Gradient of the loss at the hidden state of each step")
    figure.colorbar(image, ax=axes, label="|dL/dh|")
    return figure


def plot_gates(report: GateReport) -> "Figure":
    """Draw for each gate the shares of closed, open and other values, or its range if it is not within [0, 1]."""
    rows = [(layer.layer, gate) for layer in report.layers for gate in layer.gates]
    figure = _figure(height=1.4 + 0.32 * len(rows))
    axes: Any = figure.subplots()
    places = np.arange(len(rows))[::-1]
    for place, (_, gate) in zip(places, rows, strict=True):
        _gate_bar(axes, place, gate)
    axes.set_yticks(places, [f"{layer}  {gate.gate}" for layer, gate in rows])
    axes.set(xlim=(0, 1), xlabel="share of (row, step, unit)", ylim=(-0.6, len(rows) - 0.4))
    legend = ((GOOD, f"closed (< {CLOSED})"), (MIDDLE, "in between"), (BAD, f"open (> {OPEN})"))
    for colour, label in legend:
        axes.barh([0], [0], color=colour, label=label)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)
    return figure


def _gate_bar(axes: Any, place: int, gate: GateStatistics) -> None:
    if gate.closed is None or gate.open is None:
        text = f"{gate.activation}: {gate.minimum:.3g} to {gate.maximum:.3g}"
        axes.text(0.01, place, text, va="center", fontsize=9, color="#555555")
        return
    left = 0.0
    for share, colour in ((gate.closed, GOOD), (1 - gate.closed - gate.open, MIDDLE), (gate.open, BAD)):
        axes.barh([place], [share], left=left, color=colour, height=0.7)
        left += share


def plot_cell_growth(report: GateReport) -> "Figure":
    """Plot the largest |c| at every step, a line for each layer, on a logarithmic scale and with a warning level."""
    figure = _figure(height=3.8)
    axes: Any = figure.subplots()
    for layer in report.layers:
        maxima = layer.cell_maximum
        shown = np.where(np.isfinite(maxima) & (maxima > 0), maxima, np.nan)
        label = f"{layer.layer}, {layer.growth:.3f} a step" + (" (reads backwards)" if layer.backwards else "")
        axes.plot(shown, label=label, linewidth=1.6, marker="o" if len(maxima) < 3 else None)
        overflow = np.flatnonzero(np.isinf(maxima))
        if len(overflow):
            axes.axvline(overflow[-1 if layer.backwards else 0], color=BAD, linewidth=1)
    axes.axhline(LARGE, color=BAD, linestyle=":", label=f"worth a look: {LARGE:g}")
    axes.set_yscale("log")
    axes.set(xlabel="step of the sequence", ylabel="largest |c|", title="Cell state over the sequence")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def _figure(height: float) -> "Figure":
    from matplotlib.figure import Figure

    return Figure(figsize=(9, height), layout="constrained", dpi=110)
