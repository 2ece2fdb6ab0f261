"""A few training steps of the persistent kernel on torch: what the race checker and the profiler look at."""

import sys

import click
from common.cells import Cell

from gpu.plan import TRAINING, Case, Side
from gpu.torch_sides import Torch

REFUSED = 5  # exit code: there is nothing to look at


@click.command()
@click.option("--cells", required=True, help="As b16_t8_d8_h32,b16_t8_d8_h128.")
@click.option("--more", default=0, show_default=True, help="Steps after the first one.")
def main(cells: str, more: int) -> None:
    """Run the engine `cuda`, and say why where it cannot run."""
    framework, side = Torch(), Side("cuda")
    for name in cells.split(","):
        ready = framework.prepare(Case(Cell.parse(name), TRAINING, (side,)))[side]
        if isinstance(ready, str):
            print(f"refused: {ready}")
            sys.exit(1 if ready.startswith("failed") else REFUSED)
        if more:
            ready.run(more)
        framework.check()
        print(f"{name}: done")


if __name__ == "__main__":
    main()
