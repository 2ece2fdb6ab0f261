"""How a runtime loads a model; apart from the runtimes, so that the command line need not import NumPy."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Options:
    """How a model is loaded.

    Attributes:
        tags: The tags of the graph to load.
        intra_op_threads: Threads inside one operation; 0 lets TensorFlow choose. The first model loaded in a
            process decides: TensorFlow keeps one thread pool for all.
        inter_op_threads: Threads across operations; the first model decides here too. -1 runs every operation in the
            calling thread: a chain of small operations finishes sooner, branches run one after the other, and a
            timeout ends no run.
    """

    tags: Sequence[str] = ("serve",)
    intra_op_threads: int = 0
    inter_op_threads: int = 0
