"""How much of the loss's gradient reaches each step of each recurrent layer."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from zoo.diagnostics.autograd import gradients
from zoo.diagnostics.recording import Call, record, to_numpy
from zoo.diagnostics.replay import initial_states, unroll
from zoo.diagnostics.walk import intercepted, tensors

Tensor = Any

VANISHING, EXPLODING = 1e-4, 1e4  # ratio between the two ends of a sequence
CELLS = (keras.layers.LSTMCell, keras.layers.GRUCell, keras.layers.SimpleRNNCell)

REMEDIES = {
    "vanishing": "start the forget gate near 1 (unit_forget_bias), shorten the sequences, or read them both ways",
    "exploding": "clip the gradient (global_clipnorm=1), and bound the candidate (relu6, tanh) or set cell_clip",
    "no gradient": "nothing that this layer computes changes the loss: look for dead units with gate_report",
    "not finite": "find_non_finite(model, inputs) names the first value that is not finite",
}


@dataclass(frozen=True)
class GradientFlow:
    """Norms of dL/dh, the gradient of the loss with respect to the hidden state after each step.

    Attributes:
        layers: Paths of the recurrent layers, in the order of their calls.
        norms: (layers, steps): root mean square over the rows in which the step is valid of the norm over units; NaN
            where every row is masked and past the end of a shorter layer. A step is a position in the sequence.
        ratios: For each layer the norm at the first valid step read over that at the last, median over rows.
        verdicts: For each layer "healthy", "vanishing" (ratio below 1e-4), "exploding" (above 1e4), "no gradient"
            (zero everywhere) or "not finite".
        loss: The loss on the batch.
        skipped: Recurrent layers of a kind that cannot be unrolled here.
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
            f"gradient of layer {layer} is {verdict} (first over last step: {ratio:.2g}): {REMEDIES[verdict]}"
            for layer, ratio, verdict in zip(self.layers, self.ratios, self.verdicts, strict=True)
            if verdict != "healthy"
        )

    def __str__(self) -> str:
        rows = [f"loss {self.loss:.4g}"]
        for layer, norms, ratio, verdict in zip(self.layers, self.norms, self.ratios, self.verdicts, strict=True):
            known = norms[~np.isnan(norms)]
            spread = f"{known.min():.2e} .. {known.max():.2e}" if known.size else "none"
            rows.append(f"{layer:<32} {verdict:<12} first/last {ratio:.2e}  |dL/dh| {spread}")
        rows += [f"not looked into: {', '.join(self.skipped)}"] if self.skipped else []
        return "\n".join([*rows, *self.advice])


def gradient_flow(model: keras.Model, inputs: Any, targets: Any, loss: Any) -> GradientFlow:
    """Measure dL/dh at every step of every recurrent layer on a probe batch; on TensorFlow, JAX and torch.

    Each layer is unrolled with a zero added to every hidden state; the gradient with respect to that zero is dL/dh.
    (Pascanu, Mikolov and Bengio 2013, "On the difficulty of training recurrent neural networks".)

    Args:
        model: A built model.
        inputs: A batch as the model takes it.
        targets: What `loss` compares the model's output with.
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
    recurrent = [call for call in record(model, inputs).calls if isinstance(call.layer, keras.layers.RNN)]
    calls = [call for call in recurrent if isinstance(call.layer.cell, CELLS)]
    if not calls:
        raise ValueError(
            f"model {model.name!r} has no recurrent layer that can be unrolled: "
            "expected an LSTM, GRU or SimpleRNN of Keras, or an LSTM of the zoo"
        )
    measure, batch, truth = keras.losses.get(loss), tensors(inputs), tensors(targets)

    def objective(added: Sequence[Tensor]) -> Tensor:
        waiting = iter(added)

        def unrolled(layer: Any, original: Any, arguments: dict[str, Any]) -> Any:
            return _unrolled(Call("", layer, arguments, None), next(waiting))

        layers = {id(call.layer): call.layer for call in calls}.values()
        with intercepted(layers, unrolled), keras.StatelessScope():
            return ops.mean(measure(truth, model(batch, training=False)))

    zeros = [np.zeros((*call.inputs.shape[:2], call.layer.cell.units), call.layer.cell.compute_dtype) for call in calls]
    value = float(to_numpy(objective([ops.convert_to_tensor(zero) for zero in zeros])))
    found = gradients(objective, zeros)
    skipped = tuple(call.name for call in recurrent if call not in calls)
    return _report(calls, found, value, skipped)


def _unrolled(call: Call, added: Tensor) -> Any:
    """What the layer returns, with `added[:, t]` added to the hidden state after step t."""
    layer, sequences, mask = call.layer, call.inputs, call.mask
    states = initial_states(layer, sequences, call.arguments.get("initial_state"))

    def step(position: int, inputs: Tensor, before: Sequence[Tensor]) -> tuple[Sequence[Tensor], Any]:
        _, after = layer.cell(inputs, list(before))
        hidden, *others = after if isinstance(after, list | tuple) else [after]
        hidden = hidden + added[:, position]
        return [hidden, *others], hidden

    outputs: list[Tensor] = []
    for position, after, hidden in unroll(step, sequences, states, mask, layer.go_backwards):
        states = list(after)
        if mask is not None:
            # As in Keras: a masked step repeats the output before it, or is zero.
            repeated = outputs[-1] if outputs and not layer.zero_output_for_mask else ops.zeros_like(hidden)
            hidden = ops.where(ops.expand_dims(mask[:, position], -1), hidden, repeated)
        outputs.append(hidden)
    output = ops.stack(outputs, axis=1) if layer.return_sequences else outputs[-1]
    output = ops.cast(output, layer.compute_dtype)
    return [output, *states] if layer.return_state else output


def _report(
    calls: Sequence[Call], found: Sequence[NDArray[Any]], loss: float, skipped: tuple[str, ...]
) -> GradientFlow:
    norms = np.full((len(calls), max(gradient.shape[1] for gradient in found)), np.nan)
    ratios, verdicts = [], []
    for index, (call, gradient) in enumerate(zip(calls, found, strict=True)):
        sizes = np.linalg.norm(gradient.astype("float64"), axis=-1)
        valid = np.ones(sizes.shape, bool) if call.mask is None else to_numpy(call.mask).astype(bool)
        rows = valid.sum(axis=0)
        total = np.where(valid, sizes**2, 0.0).sum(axis=0)
        norms[index, : sizes.shape[1]] = np.where(rows > 0, np.sqrt(total / np.maximum(rows, 1)), np.nan)
        ratio = _ratio(sizes, valid, call.layer.go_backwards)
        ratios.append(ratio)
        verdicts.append(_verdict(sizes[valid], ratio))
    return GradientFlow(tuple(call.name for call in calls), norms, tuple(ratios), tuple(verdicts), loss, skipped)


def _ratio(sizes: NDArray[np.float64], valid: NDArray[np.bool_], backwards: bool) -> float:
    ratios = []
    for row, mask in zip(sizes, valid, strict=True):
        read = row[mask][::-1] if backwards else row[mask]
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
