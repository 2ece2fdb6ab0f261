"""Compiles the CUDA kernels at their first use: one source text, specialised by a set of macros, a variant."""

import functools
import re
from dataclasses import dataclass
from pathlib import Path

from zoo import devices
from zoo.kernels.cuda import compiler, driver
from zoo.kernels.cuda.driver import Launch
from zoo.types import Gates

SOURCES = Path(__file__).parent / "src"
ACTIVATIONS = Path(__file__).parents[1] / "native" / "src" / "activations.h"  # shared with the native engine

ROWS = 8  # rows of the batch for each block of threads
LARGEST = 128  # units of a block, whose registers hold the recurrent kernel
COMPILER_FLAGS = ("--std=c++17", "--device-as-default-execution-space")
_CHUNKS = {"forward": 4, "backward": 6}  # pieces of 16 bytes that each thread reads in a stage


@dataclass(frozen=True)
class Variant:
    """One way to compile `src/lstm.cu`, whose first comment explains each macro.

    Attributes:
        units: Width of the states, padded: 32, 64, 96 or 128.
        activations: The name of each gate's activation.
        half: Type of the operands of the tensor cores, "float16" or "bfloat16".
        masked: Whether steps may be masked.
        clipped: Whether the cell state is clipped.
        keep: Whether the forward kernel keeps what the backward kernel needs.
        sequences: Whether every step has an output and a gradient, or only the last.
        learned: Whether each activation learns its parameter.

    Example:
    >>> tanh = Variant(64, Gates("sigmoid", "sigmoid", "tanh", "sigmoid", "tanh"), "float16")
    >>> tanh.threads, tanh.shared("forward")
    (128, 40960)
    >>> [option for option in tanh.options() if "CANDIDATE" in option]
    ['-DZOO_CANDIDATE=Tanh']
    """

    units: int
    activations: Gates[str]
    half: str
    masked: bool = False
    clipped: bool = False
    keep: bool = False
    sequences: bool = False
    learned: Gates[bool] = Gates(*[False] * 5)  # noqa: RUF009

    @property
    def threads(self) -> int:
        """Threads of a block: a warp for each 16 units."""
        return 2 * self.units

    @property
    def stages(self) -> int:
        """Stages of the ring buffer that holds the inputs of coming steps."""
        # A step of a narrow layer takes less time than a read from memory, so more steps are fetched ahead.
        return 3 if self.units > 64 else 5

    def shared(self, name: str) -> int:
        """Bytes of dynamic shared memory that the kernel `name`, "forward" or "backward", needs."""
        return self.stages * _CHUNKS[name] * self.threads * 16

    def options(self) -> tuple[str, ...]:
        """The macros as arguments for a compiler."""
        learned = sum(1 << which for which, does in enumerate(self.learned) if does)
        flags = {"MASKED": self.masked, "CLIPPED": self.clipped, "KEEP": self.keep, "SEQUENCES": self.sequences}
        return (
            "-DZOO_ISA=gpu",
            f"-DZOO_UNITS={self.units}",
            f"-DZOO_STAGES={self.stages}",
            *(f"-DZOO_{gate.upper()}={row(name)}" for gate, name in self.activations._asdict().items()),
            *(f"-DZOO_{name}={int(flag)}" for name, flag in flags.items()),
            f"-DZOO_LEARNED={learned}",
            *(("-DZOO_BFLOAT16",) if self.half == "bfloat16" else ()),
        )


def row(name: str) -> str:
    """The class in activations.h that implements an activation.

    Example:
    >>> row("hard_sigmoid")
    'HardSigmoid'
    """
    return "".join(part.capitalize() for part in name.split("_"))


@functools.cache
def names() -> tuple[str, ...]:
    """The activations that the kernels implement, in the order of activations.h.

    Example:
    >>> names()[:3]
    ('linear', 'sigmoid', 'hard_sigmoid')
    """
    return tuple(re.findall(r'ZOO_IS\("(\w+)"', ACTIVATIONS.read_text(encoding="utf-8")))


def padded(units: int) -> int:
    """The width to which the kernels pad `units`.

    Example:
    >>> padded(20), padded(64), padded(100)
    (32, 64, 128)
    """
    return -(-units // 32) * 32


def headers() -> dict[str, str]:
    """The texts of the files that lstm.cu includes, by name."""
    files = [*sorted(SOURCES.glob("*.h")), ACTIVATIONS]
    return {file.name: file.read_text(encoding="utf-8") for file in files}


def source() -> str:
    """The source text of the kernels."""
    return (SOURCES / "lstm.cu").read_text(encoding="utf-8")


def kernel(variant: Variant, name: str, blocks: int) -> Launch:
    """Compile the kernel `name`, "forward" or "backward", of a variant, for a launch of `blocks` blocks.

    Raises:
        zoo.kernels.cuda.compiler.CompileError: The compiler is missing or refused the source.
    """
    return Launch(_compiled(variant, devices.current_gpu()), name, blocks, variant.threads, variant.shared(name))


@functools.cache
def _compiled(variant: Variant, device: int) -> str:
    options = (*COMPILER_FLAGS, *variant.options())
    return str(compiler.compile_cached(source(), headers(), options, driver.architecture(device)))
