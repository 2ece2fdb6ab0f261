"""The sides that run on torch, timed by CUDA events; on a CPU, for a dry run, by the clock."""

import gc
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from common.cells import Arrays, arrays
from common.timing import Run, timed

from gpu.machine import NO_GPU
from gpu.plan import INFERENCE, TORCH, Case, Side
from gpu.sides import Prepared, attempt, layer_of, refusal, weight_of_outputs

Step = Callable[[], Any]


class Torch:
    """See `gpu.sides.Framework`."""

    def __init__(self) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def describe(self) -> dict[str, Any]:
        x = torch.zeros(1, device=self.device)
        on_gpu = self.device.type == "cuda"
        return {
            "gpu": torch.cuda.get_device_name() if on_gpu else NO_GPU,
            "cuda": torch.version.cuda or "",
            "cudnn": str(torch.backends.cudnn.version() or ""),
            "call_us": 1e6 * self._best(lambda: x + 1, repeats=100),
        }

    def ceilings(self, dry: bool) -> dict[str, float]:
        size, copied = (64, 1 << 16) if dry else (8192, 1 << 32)
        found = {}
        for precision, dtype in (("bfloat16", torch.bfloat16), ("tf32", torch.float32), ("float32", torch.float32)):
            self._allow_tf32(precision == "tf32")
            a, b = (torch.randn(size, size, device=self.device, dtype=dtype) for _ in range(2))
            found[precision] = 2 * size**3 / self._best(partial(torch.matmul, a, b))
        found["float16"] = found["bfloat16"]  # one rate on every chip that has both
        source = torch.randn(copied // 4, device=self.device)
        target = torch.empty_like(source)
        return found | {"copy": 2 * copied / self._best(lambda: target.copy_(source))}

    def prepare(self, case: Case) -> dict[Side, Prepared | str]:
        given, w = arrays(case.cell), torch.from_numpy(weight_of_outputs(case.cell))

        def ready(side: Side) -> Prepared | str:
            return refusal(side, case.cell) or attempt(lambda: self._prepare(side, case, given, w))

        return {side: ready(side) for side in case.sides}

    def check(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def release(self) -> None:
        gc.collect()
        torch.cuda.empty_cache()

    def _prepare(self, side: Side, case: Case, given: Arrays, w: Any) -> Prepared:
        self._allow_tf32(side.precision == "tf32")
        dtype = getattr(torch, side.dtype)
        x, w = torch.from_numpy(given.x).to(self.device, dtype), w.to(self.device, dtype)
        call, weights, in_order = self._layer(side, case, given)
        if case.mode == INFERENCE:

            def step() -> Any:
                with torch.no_grad():
                    return call(x)

        else:
            x.requires_grad_()

            def step() -> Any:
                return torch.autograd.grad(call(x), [x, *weights], w)

        step = self._recorded(step) if side.graph else step
        out = step()
        result = [out[:, -1]] if case.mode == INFERENCE else in_order(out)
        return Prepared(self._run(step, side), [_array(part) for part in result])

    def _layer(self, side: Side, case: Case, given: Arrays) -> tuple[Callable[[Any], Any], list[Any], Any]:
        """The layer as a function of x, what it learns, and the order of its gradients that every side has."""
        if side.name != TORCH:
            layer = layer_of(side, case, given)
            training = case.mode != INFERENCE
            return (lambda x: layer(x, training=training)), [v.value for v in layer.trainable_variables], tuple
        lstm = torch.nn.LSTM(case.cell.features, case.cell.units, batch_first=True)
        with torch.no_grad():
            # Torch has the same gate order, its matrices transposed, and a second bias.
            lstm.weight_ih_l0.copy_(torch.from_numpy(given.kernel.T))
            lstm.weight_hh_l0.copy_(torch.from_numpy(given.recurrent_kernel.T))
            lstm.bias_ih_l0.copy_(torch.from_numpy(given.bias))
            lstm.bias_hh_l0.zero_()
        lstm = lstm.to(self.device, getattr(torch, side.dtype))
        weights = [lstm.weight_ih_l0, lstm.weight_hh_l0, lstm.bias_ih_l0, lstm.bias_hh_l0]
        return (lambda x: lstm(x)[0]), weights, lambda g: (g[0], g[1].T, g[2].T, g[3])

    def _recorded(self, step: Step) -> Step:
        """`step` as a CUDA graph; on a CPU, where there is none, as it is."""
        if self.device.type == "cpu":
            return step
        side_stream = torch.cuda.Stream()
        side_stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side_stream):  # warm, so that nothing is set up while it is recorded
            for _ in range(3):
                step()
        torch.cuda.current_stream().wait_stream(side_stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            kept = step()

        def replay() -> Any:
            graph.replay()
            return kept

        return replay

    def _run(self, step: Step, side: Side | None = None) -> Run:
        if self.device.type == "cpu":
            return timed(step)
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))

        def run(repeats: int) -> float:
            if side is not None:
                self._allow_tf32(side.precision == "tf32")
            start.record()
            for _ in range(repeats):
                step()
            end.record()
            end.synchronize()
            return float(start.elapsed_time(end)) / 1e3

        return run

    def _best(self, step: Step, repeats: int = 5, tries: int = 5) -> float:
        run = self._run(step)
        run(2)
        return min(run(repeats) / repeats for _ in range(tries))

    @staticmethod
    def _allow_tf32(allowed: bool) -> None:
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = allowed


def _array(tensor: Any) -> Any:
    return tensor.detach().float().cpu().numpy()
