"""Why a recurrent model learns or dies: reports on gradients, gates, cell states and the first NaN.

Every function takes a model and a batch, changes nothing, logs nothing, and returns a report that can be printed and
that has `.advice` if there is a problem.
"""

from zoo.diagnostics.double_precision import DoublePrecisionRefused as DoublePrecisionRefused
from zoo.diagnostics.flow import GradientFlow as GradientFlow, gradient_flow as gradient_flow
from zoo.diagnostics.gates import GateReport as GateReport, gate_report as gate_report
from zoo.diagnostics.gradient_checking import GradientCheck as GradientCheck, gradient_check as gradient_check
from zoo.diagnostics.health import Finding as Finding, Health as Health
from zoo.diagnostics.non_finite import NonFinite as NonFinite, find_non_finite as find_non_finite
from zoo.diagnostics.pictures import (
    plot_cell_growth as plot_cell_growth,
    plot_gates as plot_gates,
    plot_gradient_flow as plot_gradient_flow,
)
from zoo.diagnostics.spectrum import Spectrum as Spectrum, spectral_radius as spectral_radius

__all__ = [
    "DoublePrecisionRefused",
    "Finding",
    "GateReport",
    "GradientCheck",
    "GradientFlow",
    "Health",
    "NonFinite",
    "Spectrum",
    "find_non_finite",
    "gate_report",
    "gradient_check",
    "gradient_flow",
    "plot_cell_growth",
    "plot_gates",
    "plot_gradient_flow",
    "spectral_radius",
]
