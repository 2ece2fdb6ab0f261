"""What is timed on a CPU: the sizes and the activations."""

from dataclasses import dataclass

from common.cells import Cell

SLOPE = 0.1
# Our name of each activation; the gates are sigmoids throughout.
ACTIVATIONS = {
    "tanh": "tanh",
    "relu": "relu",
    "leaky_relu": f"leaky_relu({SLOPE})",
    "prelu": f"prelu({SLOPE})",
    "hard_tanh": "hard_tanh",
    "silu": "silu",
}
MODES = ("training", "inference")


@dataclass(frozen=True)
class Case:
    """A cell with an activation, in training or inference."""

    cell: Cell
    activation: str
    mode: str

    def __str__(self) -> str:
        return f"{self.mode} {self.activation} {self.cell}"


# A fifth of all combinations of batch 1, 8, 32, 64, 128; steps 32, 128, 512; features 8, 64; units 32, 64, 128, 256.
# Every pair of batch and units stands here at least once, every pair of steps and features four times, and what would
# take more than 14 GFLOP a training step (long, wide and in large batches at once) not at all.
CELLS = tuple(
    Cell.parse(name)
    for name in [
        "b1_t32_d64_h32",
        "b1_t128_d8_h64",
        "b1_t512_d64_h128",
        "b1_t32_d8_h256",
        "b1_t512_d8_h32",
        "b8_t512_d8_h32",
        "b8_t32_d64_h64",
        "b8_t128_d8_h128",
        "b8_t512_d64_h256",
        "b8_t128_d64_h256",
        "b32_t128_d64_h32",
        "b32_t512_d8_h64",
        "b32_t32_d64_h128",
        "b32_t128_d8_h256",
        "b32_t512_d64_h64",
        "b64_t512_d64_h32",
        "b64_t32_d8_h64",
        "b64_t128_d64_h128",
        "b64_t32_d8_h256",
        "b64_t512_d8_h128",
        "b128_t32_d8_h32",
        "b128_t128_d64_h64",
        "b128_t128_d8_h128",
        "b128_t32_d64_h256",
    ]
)
QUICK_CELLS = (Cell(1, 6, 3, 5), Cell(32, 5, 4, 8))
QUICK_MEMORY = (Cell(32, 64, 4, 64),)
MEMORY_CELLS = (Cell(128, 128, 64, 256), Cell(64, 512, 64, 128), Cell(128, 512, 8, 64), Cell(32, 512, 64, 256))
