"""How much of the loss's gradient reaches each step of each recurrent layer."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from zoo.diagnostics.autograd import value_and_gradients
from zoo.diagnostics.cells import cells_of
from zoo.diagnostics.loop import Trace, WideLoop
from zoo.diagnostics.recording import Call, Recording, record, to_numpy, unknown_cells
from zoo.diagnostics.running import pays, stateless
from zoo.interception import intercepted, tensors
from zoo.types import Tensor

VANISHING, EXPLODING = 1e-4, 1e4  # ratio between the two ends of a sequence

ADVICE = {
    "vanishing": "start the forget gate near 1 (unit_forget_bias), shorten the sequences, or read them both ways",
    "exploding": "clip the gradient (global_clipnorm=1), and bound the candidate (relu6, tanh) or set cell_clip",
    "no gradient": "nothing that this layer computes changes the loss: look for dead units with gate_report",
    "not finite": "find_non_finite(model, inputs) names the first value that is not finite",
}


@dataclass(frozen=True)
class GradientFlow:
    """Norms of dL/dh, the gradient of the loss with respect to the hidden state after each step.

    Attributes:
        layers: Paths of the recurrent layers in the order of their calls; of each cell where a layer has several.
        norms: (layers, steps): the norm over units, as root mean square over the rows in which the step is valid; NaN
            where every row is masked and past the end of a shorter layer. A step is a position in the sequence.
        ratios: For each layer, the norm at the first valid step read divided by that at the last, median over rows.
        verdicts: For each layer "healthy", "vanishing" (ratio below 1e-4), "exploding" (above 1e4), "no gradient"
            (zero everywhere) or "not finite".
        loss: The loss on the batch.
        skipped: Recurrent layers and cells of an unknown kind.
    """

    layers: tuple[str, ...]
    norms: NDArray[np.float64]
    ratios: tuple[float, ...]
    verdicts: tuple[str, ...]
    loss: float
    skipped: tuple[str, ...] = ()

    @property
    def advice(self) -> tuple[str, ...]:
        """A sentence for every layer that is not healthy."""
        return tuple(
            f"gradient of layer {layer} is {verdict} (first over last step: {ratio:.2g}): {ADVICE[verdict]}"
            for layer, ratio, verdict in zip(self.layers, self.ratios, self.verdicts, strict=True)
            if verdict != "healthy"
        )

    def __str__(self) -> str:
        rows = [f"loss {self.loss:.4g}"]
        for layer, norms, ratio, verdict in zip(self.layers, self.norms, self.ratios, self.verdicts, strict=True):
            known = norms[~np.isnan(norms)]
            spread = f"{known.min():.2e} .. {known.max():.2e}" if known.size else "none"
            rows.append(f"{layer:<32} {verdict:<12} first/last {ratio:.2e}  |dL/dh| {spread}")
        rows += [f"not examined: {', '.join(self.skipped)}"] if self.skipped else []
        return "\n".join([*rows, *self.advice])


def gradient_flow(model: keras.Model, inputs: Any, targets: Any, loss: Any) -> GradientFlow:
    """Measure dL/dh at every step of every recurrent layer on a probe batch; on TensorFlow, JAX and torch.

    A zero is added to every hidden state, after zoneout if there is any; the gradient with respect to that zero is
    dL/dh. (Pascanu, Mikolov and Bengio 2013, "On the difficulty of training recurrent neural networks".)

    Args:
        model: A built model.
        inputs: A batch as the model takes it.
        targets: Targets that `loss` compares with the model's output.
        loss: A Keras loss, its name, or a function of targets and outputs; its mean is taken.

    Raises:
        NotImplementedError: Keras runs on a backend without gradients.
        ValueError: The model is not built or has no recurrent layer.

    Example:
    >>> from zoo.layers import LSTM
    >>> model = keras.Sequential([keras.Input((4, 1)), LSTM(2, name="lstm"), keras.layers.Dense(1)])
    >>> flow = gradient_flow(model, np.ones((3, 4, 1), "float32"), np.ones((3, 1), "float32"), "mse")
    >>> flow.layers, flow.norms.shape, flow.verdicts
    (('lstm',), (1, 4), ('healthy',))
    """
    return FlowMeter(model, inputs, targets, loss, record(model, inputs))()


class FlowMeter:
    """Measures `gradient_flow` of one batch repeatedly; later measurements are cheaper.

    Args:
        model: A built model.
        inputs: A batch as the model takes it.
        targets: Targets that `loss` compares with the model's output.
        loss: A Keras loss, its name, or a function of targets and outputs.
        recording: A pass of the batch through the model; its shapes and masks are used.
        compiled: Whether to compile; `None` decides by the length of the sequences.
    """

    def __init__(
        self,
        model: keras.Model,
        inputs: Any,
        targets: Any,
        loss: Any,
        recording: Recording,
        compiled: bool | None = None,
    ) -> None:
        self._calls = [call for call in recording.calls if call.traces]
        if not self._calls:
            raise ValueError(
                f"model {model.name!r} has no recurrent layer whose steps are known: expected an LSTM, GRU or "
                "SimpleRNN of Keras, or a layer or cell of the zoo"
            )
        self._model, self._measure = model, keras.losses.get(loss)
        self._batch, self._targets = tensors(inputs), tensors(targets)
        self._skipped = unknown_cells(recording)
        self._run = stateless(self._pass, model, pays(model, inputs) if compiled is None else compiled)

    def __call__(self) -> GradientFlow:
        zeros = [
            ops.zeros((*call.traces[0].valid.shape, _width(call)), call.layer.compute_dtype) for call in self._calls
        ]
        value, gradients = self._run(zeros, self._batch, self._targets)
        traces: list[Trace] = []
        by_cell: list[NDArray[Any]] = []
        for call, gradient in zip(self._calls, gradients, strict=True):
            ends = np.cumsum([trace.cell.width for trace in call.traces])[:-1]
            traces += call.traces
            by_cell += np.split(to_numpy(gradient), ends, axis=-1)
        return _report(traces, by_cell, float(to_numpy(value)), self._skipped)

    def _pass(self, zeros: list[Tensor], batch: Any, targets: Any) -> tuple[Tensor, list[Tensor]]:
        def objective(added: Sequence[Tensor]) -> Tensor:
            waiting = iter(zip(self._calls, added, strict=True))

            def add(layer: Any, original: Any, arguments: dict[str, Any]) -> Any:
                call, zero = next(waiting)
                result, _ = WideLoop(cells_of(layer, call.name), notes=False)(arguments, zero)
                return result

            layers = {id(call.layer): call.layer for call in self._calls}.values()
            with intercepted(layers, add, "inner_loop"):
                return ops.mean(self._measure(targets, self._model(batch, training=False)))

        return value_and_gradients(objective, zeros)


def _width(call: Call) -> int:
    return sum(trace.cell.width for trace in call.traces)


def _report(
    traces: Sequence[Trace], gradients: Sequence[NDArray[Any]], loss: float, skipped: tuple[str, ...]
) -> GradientFlow:
    norms = np.full((len(traces), max(gradient.shape[1] for gradient in gradients)), np.nan)
    ratios, verdicts = [], []
    for index, (trace, gradient) in enumerate(zip(traces, gradients, strict=True)):
        sizes = np.linalg.norm(gradient.astype("float64"), axis=-1)
        valid, rows = trace.valid, trace.valid.sum(axis=0)
        total = np.where(valid, sizes**2, 0.0).sum(axis=0)
        norms[index, : sizes.shape[1]] = np.where(rows > 0, np.sqrt(total / np.maximum(rows, 1)), np.nan)
        ratio = _ratio(sizes, valid, trace.order)
        ratios.append(ratio)
        verdicts.append(_verdict(sizes[valid], ratio))
    return GradientFlow(
        tuple(trace.cell.name for trace in traces), norms, tuple(ratios), tuple(verdicts), loss, skipped
    )


def _ratio(sizes: NDArray[np.float64], valid: NDArray[np.bool_], order: NDArray[np.int64]) -> float:
    ratios = []
    for row, mask in zip(sizes[:, order], valid[:, order], strict=True):
        read = row[mask]
        if len(read) > 1 and read[-1] > 0 and np.isfinite(read).all():
            ratios.append(read[0] / read[-1])
    return float(np.median(ratios)) if ratios else float("nan")


def _verdict(sizes: NDArray[np.float64], ratio: float) -> str:
    if not np.isfinite(sizes).all():
        return "not finite"
    if not sizes.any():
        return "no gradient"
    if ratio < VANISHING:
        return "vanishing"
    return "exploding" if ratio > EXPLODING else "healthy"
