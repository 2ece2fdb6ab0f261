"""`torch.nn.LSTM` in a child process: lines of JSON in, lines of JSON out.

Between two questions the child is stopped: the threads of torch go on spinning for a while after their last task, and
would take the cores from the next side.
"""

import ctypes
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common.cells import Cell, arrays
from common.timing import timed


class Child:
    """The child as its parent sees it.

    Args:
        threads: How many torch may use.
    """

    def __init__(self, threads: int) -> None:
        self._process: Any = subprocess.Popen(
            [sys.executable, "-m", "cpu.torch_child", str(threads)],
            cwd=Path(__file__).parents[1],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def close(self) -> None:
        """End the child."""
        self._process.kill()
        self._process.wait()

    def ask(self, **question: Any) -> dict[str, Any]:
        """Send one question and wait for its answer. Raises `RuntimeError` where the child has died."""
        try:
            self._process.send_signal(signal.SIGCONT)
            print(json.dumps(question), file=self._process.stdin, flush=True)
            line = self._process.stdout.readline()
            self._process.send_signal(signal.SIGSTOP)
        except BrokenPipeError:
            line = ""
        if not line:
            raise RuntimeError(f"the torch process ended (exit code {self._process.wait()}) when asked {question}")
        return dict(json.loads(line))


def prepare(cell: Cell, mode: str) -> tuple[Callable[[], object], list[Any]]:
    """One step of `cell`, and what it computes: see `Prepared.result`."""
    import torch

    given, units = arrays(cell), cell.units
    x, labels = torch.from_numpy(given.x), torch.from_numpy(given.labels).long()
    lstm, head = torch.nn.LSTM(cell.features, units, batch_first=True), torch.nn.Linear(units, len(given.head_bias))
    with torch.no_grad():
        # Torch has the same gate order, its matrices transposed, and a second bias.
        lstm.weight_ih_l0.copy_(torch.from_numpy(given.kernel.T))
        lstm.weight_hh_l0.copy_(torch.from_numpy(given.recurrent_kernel.T))
        lstm.bias_ih_l0.copy_(torch.from_numpy(given.bias))
        lstm.bias_hh_l0.zero_()
        head.weight.copy_(torch.from_numpy(given.head_kernel.T))
        head.bias.copy_(torch.from_numpy(given.head_bias))
    weights = [lstm.weight_ih_l0, lstm.weight_hh_l0, lstm.bias_ih_l0, head.weight, head.bias, lstm.bias_hh_l0]

    def inference() -> Any:
        with torch.inference_mode():
            return lstm(x)[0][:, -1]

    def training() -> Any:
        loss = torch.nn.functional.cross_entropy(head(lstm(x)[0][:, -1]), labels)
        return loss, torch.autograd.grad(loss, weights)

    if mode == "inference":
        return inference, inference().tolist()
    loss, gradients = training()
    return training, [loss.item(), *(gradient.norm().item() for gradient in gradients[:5])]


def main() -> None:
    import torch

    if sys.platform == "linux":  # a stopped process would never notice that its parent was killed
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # 1: PR_SET_PDEATHSIG
    # As TensorFlow does in its threads: a gradient that fades over hundreds of steps would cost torch six times more.
    torch.set_flush_denormal(True)
    torch.set_num_threads(int(sys.argv[1]))
    run: Any = None
    for line in sys.stdin:
        question = json.loads(line)
        if "prepare" in question:
            step, result = prepare(Cell.parse(question["prepare"]), question["mode"])
            run = timed(step)
            print(json.dumps({"result": result}), flush=True)
        else:
            print(json.dumps({"seconds": run(question["run"])}), flush=True)


if __name__ == "__main__":
    main()
