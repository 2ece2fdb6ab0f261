"""Problems made by a rule from seeded random numbers, with known answers, of any length.

Each is a `Dataset` of a usual length under its plain name, and a family for every other length: `get("parity")`,
`get("parity/200")`. Nothing is downloaded and nothing is kept on disk.
"""

from training.datasets.synthetic.adding_problem import AddingProblem
from training.datasets.synthetic.base import InvalidLength, Synthetic
from training.datasets.synthetic.copy_memory import CopyMemory
from training.datasets.synthetic.embedded_reber import EmbeddedReber
from training.datasets.synthetic.mackey_glass import MackeyGlass
from training.datasets.synthetic.parity import Parity
from training.datasets.synthetic.temporal_order import TemporalOrder

PROBLEMS: tuple[type[Synthetic], ...] = (
    AddingProblem,
    CopyMemory,
    TemporalOrder,
    EmbeddedReber,
    Parity,
    MackeyGlass,
)

__all__ = [
    "PROBLEMS",
    "AddingProblem",
    "CopyMemory",
    "EmbeddedReber",
    "InvalidLength",
    "MackeyGlass",
    "Parity",
    "Synthetic",
    "TemporalOrder",
]
