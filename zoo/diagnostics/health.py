"""A callback that examines a model while it trains and collects findings."""

import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, cast

import keras

from zoo.checks import positive_integer
from zoo.diagnostics.cells import cells_of
from zoo.diagnostics.flow import FlowMeter, GradientFlow
from zoo.diagnostics.gates import GateReport, gates_of
from zoo.diagnostics.non_finite import NonFinite, non_finite_of
from zoo.diagnostics.recording import Recorder, Recording
from zoo.interception import leaf_layers

SHARE, FREE = 0.03, 1.0  # budget of all looks: a share of the training time, or seconds if that is more
# Expected seconds for each recurrent layer of the first look and the first gradient flow, which compile.
FIRST_LOOK, FIRST_FLOW = (0.5, 1.5) if keras.backend.backend() == "jax" else (0.25, 0.75)


@dataclass(frozen=True)
class Checkup:
    """The results of one look at the model.

    Attributes:
        epoch: Epochs finished before it.
        batch: Batches seen before it in the whole training.
        gates: The report on the gates on the probe.
        non_finite: The first value on the probe that is not finite, or `None`.
        flow: The gradient flow, if the callback has targets and everything is finite; else `None`.
    """

    epoch: int
    batch: int
    gates: GateReport
    non_finite: NonFinite | None
    flow: GradientFlow | None


@dataclass(frozen=True)
class Finding:
    """The last observation of a problem.

    Attributes:
        epoch: Epochs finished before it.
        batch: Batches seen before it in the whole training.
        subject: The layer and part with the problem, such as "lstm_2: cell state".
        advice: One sentence with numbers and a remedy.
    """

    epoch: int
    batch: int
    subject: str
    advice: str

    def __str__(self) -> str:
        return f"after {self.epoch} epochs ({self.batch} batches): {self.advice}"


class Health(keras.callbacks.Callback):
    """Examine the gates, the cell state and, with targets, the gradient flow on a probe batch while a model trains.

    It looks before the first batch, after batches 1, 2, 4, 8, ... (a ReLU LSTM can run away within one epoch) and at
    the end of epochs, if the expected cost of the look fits the budget: 3 % of the time so far or 1 second, whichever
    is more, for all looks together. A look is expected to cost as much as the last one; the first, which compiles, a
    quarter of a second for each recurrent layer, and the first gradient flow three quarters (twice that on JAX).
    Training is the same with and without it: nothing is assigned and no random number is drawn.

    Args:
        inputs: The probe, a batch in the form that the model takes. 16 rows are enough.
        targets: Targets of the probe. With them a look also measures the gradient flow under the model's loss, if the
            budget allows.
        every: Number of epochs between looks. They take place before the first batch and at the end of every `every`-th
            epoch, with the gradient flow, at any cost; `None` keeps to the budget above.
        share: Share of the training time for all looks; `None` for 0.03.
        free: Seconds for all looks that are allowed in any case; `None` for 1.

    Attributes:
        history: A `Checkup` for each look.
        seconds: Time that the looks have taken.

    Raises:
        ValueError: `every` is not a positive int.

    Example:
    >>> import numpy as np
    >>> from zoo.layers import LSTM
    >>> model = keras.Sequential([keras.Input((5, 1)), LSTM(3, name="lstm"), keras.layers.Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> x, y = np.ones((8, 5, 1), "float32"), np.ones((8, 1), "float32")
    >>> health = Health(x[:4])
    >>> _ = model.fit(x, y, epochs=1, verbose=0, callbacks=[health])
    >>> health.findings
    ()
    """

    def __init__(
        self,
        inputs: Any,
        targets: Any = None,
        *,
        every: int | None = None,
        share: float | None = None,
        free: float | None = None,
    ) -> None:
        super().__init__()
        self.inputs, self.targets = inputs, targets
        self.every = None if every is None else positive_integer("every", every)
        self._share = SHARE if share is None else share
        self._free = FREE if free is None else free
        self.history: list[Checkup] = []
        self.seconds = 0.0
        self._started = 0.0
        self._epoch = self._batch = 0
        self._recorder: Recorder | None = None
        self._meter: FlowMeter | None = None
        # Expected seconds of a look, and of the gradient flow in it.
        self._expected, self._expected_flow = 0.0, 0.0

    def on_train_begin(self, logs: Any = None) -> None:
        self._started = time.perf_counter()
        self._recorder = self._meter = None  # there may be another model, or it may be compiled again
        layers = sum(len(cells_of(layer, name)) for name, layer in leaf_layers(self.model).items()) or 1
        self._expected, self._expected_flow = FIRST_LOOK * layers, FIRST_FLOW * layers
        if self.every is not None or self._affordable():
            self._look()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._batch += 1
        if self.every is None and self._batch & (self._batch - 1) == 0 and self._affordable():
            if keras.backend.backend() == "jax":
                self.model.jax_state_sync()  # within an epoch Keras keeps the values outside the variables
            self._look()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._epoch += 1
        if self._epoch % self.every == 0 if self.every else self._affordable():
            self._look()

    def look(self) -> None:
        """Look now at any cost, for instance at a model that has just diverged."""
        self._look(at_any_price=True)

    @property
    def _left(self) -> float:
        """Seconds that are left of the budget."""
        return max(self._free, self._share * (time.perf_counter() - self._started)) - self.seconds

    def _affordable(self) -> bool:
        return self._expected < self._left

    def _look(self, at_any_price: bool = False) -> None:
        if self.history and self.history[-1].non_finite and self.history[-1].non_finite.origin == "weight":
            return  # destroyed weights do not recover, and everything that they compute is NaN
        before, started = self.seconds, time.perf_counter()
        try:
            with _global_generator_kept():
                self._examine(started, before, at_any_price or self.every is not None)
        finally:
            self.seconds = before + time.perf_counter() - started

    def _examine(self, started: float, before: float, at_any_price: bool) -> None:
        first = self._recorder is None
        if self._recorder is None:
            self._recorder = Recorder(self.model, self.inputs, compiled=not self.model.run_eagerly)
        recording = self._recorder()
        gates, bad = gates_of(recording), non_finite_of(recording, self.inputs)
        took = time.perf_counter() - started
        self.seconds = before + took
        self._expected = 0.0 if first else took  # the first look compiled, so its cost says nothing about the next one
        measures = self.targets is not None and bad is None and (at_any_price or self._expected_flow < self._left)
        flow = self._flow(recording) if measures else None
        self.history.append(Checkup(self._epoch, self._batch, gates, bad, flow))

    def _flow(self, recording: Recording) -> GradientFlow:
        started, first = time.perf_counter(), self._meter is None
        if self._meter is None:
            self._meter = FlowMeter(
                self.model, self.inputs, self.targets, self.model.loss, recording, not self.model.run_eagerly
            )
        flow = self._meter()
        self._expected_flow = 0.0 if first else time.perf_counter() - started
        return flow

    @property
    def findings(self) -> tuple[Finding, ...]:
        """The last observation of every problem, in the order in which the problems first appeared."""
        by_subject: dict[str, Finding] = {}
        for checkup in self.history:
            for subject, advice in _sentences(checkup).items():
                by_subject[subject] = Finding(checkup.epoch, checkup.batch, subject, advice)
        return tuple(by_subject.values())

    def __str__(self) -> str:
        head = f"{len(self.history)} checkups in {self.seconds:.2f} s, {len(self.findings)} findings"
        return "\n".join([head, *map(str, self.findings)])


def _global_generator_kept() -> AbstractContextManager[None]:
    # On torch some of Keras's layers draw from the generator of the process, at inference too; a look must not change
    # the later draws of the training.
    if keras.backend.backend() != "torch":
        return nullcontext()
    import torch

    return cast(AbstractContextManager[None], torch.random.fork_rng())


def _sentences(checkup: Checkup) -> dict[str, str]:
    bad = checkup.non_finite
    if bad is not None and bad.origin == "weight":
        return {"weights": str(bad)}  # the values that destroyed weights compute are meaningless
    sentences = {"first non-finite value": str(bad)} if bad else {}
    for layer in checkup.gates.layers:
        for subject, advice in layer.findings.items():
            if not bad or subject == "cell state":  # after an overflow the gates are full of NaN, which says no more
                sentences[f"{layer.layer}: {subject}"] = advice
    if checkup.flow is not None:
        verdicts = zip(checkup.flow.layers, checkup.flow.verdicts, strict=True)
        names = [f"{name}: gradient" for name, verdict in verdicts if verdict != "healthy"]
        sentences |= dict(zip(names, checkup.flow.advice, strict=True))
    return sentences
