"""The sides that run on JAX: each one compiled function, timed by the clock until its last result is there."""

import gc
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from common.cells import Arrays, arrays
from common.timing import Run

from gpu.machine import NO_GPU
from gpu.plan import INFERENCE, Case, Side
from gpu.sides import Prepared, attempt, layer_of, refusal, weight_of_outputs


class Jax:
    """See `gpu.sides.Framework`."""

    def describe(self) -> dict[str, Any]:
        x = jnp.zeros(1)
        run = _run(jax.jit(lambda x: x + 1).lower(x).compile(), (x,))
        run(10)
        return {"gpu": _device(), "call_us": 1e6 * min(run(100) / 100 for _ in range(10))}

    def ceilings(self, dry: bool) -> dict[str, float]:
        return {}  # torch measures them

    def prepare(self, case: Case) -> dict[Side, Prepared | str]:
        given, w = arrays(case.cell), jnp.asarray(weight_of_outputs(case.cell))
        found: dict[Side, Any] = {}
        # Traced one after the other, because Keras is not made for threads; compiled, which takes most, all at once.
        with ThreadPoolExecutor(min(len(case.sides), os.cpu_count() or 1)) as pool:
            for side in case.sides:
                found[side] = refusal(side, case.cell)
                if found[side] is None:
                    found[side] = attempt(partial(self._traced, side, case, given, w, pool))
            for side, traced in found.items():
                if not isinstance(traced, str):
                    found[side] = attempt(partial(_finished, *traced))
        return found

    def check(self) -> None:
        jax.block_until_ready(jnp.zeros(1) + 1)

    def release(self) -> None:
        gc.collect()

    def _traced(self, side: Side, case: Case, given: Arrays, w: Any, pool: ThreadPoolExecutor) -> Any:
        layer = layer_of(side, case, given)
        weights = [v.value for v in layer.trainable_variables]
        fixed = [v.value for v in layer.non_trainable_variables]
        x, w = jnp.asarray(given.x, side.dtype), w.astype(side.dtype)

        def call(x: Any, weights: Any) -> Any:
            return layer.stateless_call(weights, fixed, x, training=case.mode != INFERENCE)[0]

        def loss(x: Any, weights: Any, w: Any) -> Any:
            return (call(x, weights) * w).sum()

        inference = case.mode == INFERENCE
        step, inputs = (call, (x, weights)) if inference else (jax.grad(loss, argnums=(0, 1)), (x, weights, w))
        return pool.submit(jax.jit(step).lower(*inputs).compile), inputs, inference


def _finished(compiling: Any, inputs: tuple[Any, ...], inference: bool) -> Prepared:
    compiled = compiling.result()
    out = compiled(*inputs)
    result = [out[:, -1]] if inference else jax.tree.leaves(out)
    note = "cudnn" if "cudnn_rnn" in compiled.as_text() else ""
    return Prepared(_run(compiled, inputs), [np.asarray(part, "float32") for part in result], note)


def _run(step: Callable[..., Any], inputs: tuple[Any, ...]) -> Run:
    def run(repeats: int) -> float:
        started, out = time.perf_counter(), None
        for _ in range(repeats):
            out = step(*inputs)
        jax.block_until_ready(out)
        return time.perf_counter() - started

    return run


def _device() -> str:
    device = jax.devices()[0]
    return NO_GPU if device.platform == "cpu" else str(device.device_kind)
