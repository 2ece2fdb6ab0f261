"""Records one run while it trains and when it has ended."""

import json
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

import keras

from training.config import Config
from training.datasets import Examples
from training.run import environment
from training.run.checkpoints import folder_of
from training.run.distribution import several_hosts
from training.run.loop import Data, Result
from training.run.metrics import epoch_metrics, is_plain, stored_name
from training.run.optimizer import take_gradient_norm
from training.tracking.delivery import Courier
from training.tracking.diagnosis import cause, engines, figures, watch
from training.tracking.journal import OUTBOX, Journal
from training.tracking.offline import root, settle, shown_uri, warn
from zoo.diagnostics import Health


class Recorder(keras.callbacks.Callback):
    """A Keras callback that records a run: metrics of each epoch and diagnostics.

    Nothing here waits for the store.

    Args:
        run_id: MLflow's id of the run.
        name: MLflow's name of it.
        config: The run.
        data: Its data.
        journal: Where to write.
        courier: Delivers the journal; `None` where no store is known.
        stored: (key, step) of what an earlier process has logged: not logged again.

    Attributes:
        run_id: As given.
        name: As given.
        outcome: The outcome of the run, once it has a result.
        health: What looks at the model while it trains, or `None`.
    """

    def __init__(
        self,
        run_id: str,
        name: str,
        config: Config,
        data: Data,
        journal: Journal,
        courier: Courier | None,
        stored: frozenset[tuple[str, int]] = frozenset(),
    ) -> None:
        super().__init__()
        self.run_id, self.name, self.outcome = run_id, name, ""
        self._config, self._data, self._stored = config, data, stored
        # A run that was started with the metric names of an earlier version keeps them, or its curves would break off.
        self._stored_name = str if any(is_plain(key) for key, _ in stored) else stored_name
        self._journal, self._courier = journal, courier
        self.health: Health | None = None
        self._looks, self._looking_works = 0, True
        self._largest_norm = ""

    # === While it trains ===

    def on_train_begin(self, logs: Any = None) -> None:
        self.tags({"engine": engines(self.model)})
        if several_hosts():
            return  # diagnostics of one host alone would leave the others waiting for it
        with self._looking():
            self.health = watch(self._config, self._data, self.model)
            self.health.set_model(self.model)
            self.health.on_train_begin()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        with self._looking():
            if self.health is not None:
                self.health.on_train_batch_end(batch)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        seen: dict[str, float] = {}
        with self._looking():
            norms = take_gradient_norm(self.model.optimizer)
            self._largest_norm = f"the norm of the gradient was up to {norms['max']:.3g} in epoch {epoch + 1}"
            seen = {"train/gradient_norm": norms["mean"], "train/gradient_norm_max": norms["max"]}
            if self.health is not None:
                # A callback before this one has stopped the run: this is the last chance to see why.
                self.health.look() if self.model.stop_training else self.health.on_epoch_end(epoch)
                fresh, self._looks = self.health.history[self._looks :], len(self.health.history)
                seen |= figures(fresh[-1]) if fresh else {}
        self.metrics(epoch_metrics(logs or {}) | seen, epoch)

    @contextmanager
    def _looking(self) -> Iterator[None]:
        """Keep a failing diagnosis from ending the training: after the first failure no other is made."""
        try:
            yield
        except Exception as error:
            self.health = None
            if self._looking_works:
                self._looking_works = False
                self.tags({"diagnostics": f"stopped: {type(error).__name__}: {error}"})
                warn(f"run {self.run_id[:8]}: its diagnostics have stopped: {type(error).__name__}: {error}")

    # === What it writes down ===

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Log `values` at `step`."""
        named = {self._stored_name(key): float(value) for key, value in values.items()}
        fresh = {key: value for key, value in named.items() if (key, step) not in self._stored}
        if fresh:
            self._write("metrics", time=_milliseconds(), step=step, values=fresh)

    def tags(self, values: Mapping[str, object]) -> None:
        """Set tags; those that are `None` are left out."""
        self._write("tags", values={key: str(value) for key, value in values.items() if value is not None})

    def result(self, result: Result, data: Data) -> Result:
        """Log the outcome: final metrics, tables, pictures, the model, and what an export needs to know.

        Returns:
            The result; where it diverged its reason now ends with what the diagnostics saw go wrong, if they saw
            anything, and with the norm of the gradient.
        """
        # Imported only now: it imports plotting, for which the first batch should not wait.
        from training.tracking.artifacts import write_artifacts

        if result.outcome == "diverged":
            died_of = cause(self.health) if self.health else None
            parts = (result.reason, died_of, self._largest_norm)
            result = replace(result, reason="; ".join(part for part in parts if part))
        self.outcome = result.outcome
        self.tags({"outcome": result.outcome, "reason": result.reason})
        self.metrics(_final_metrics(result))
        if result.test_examples is not None:
            self._inputs({"test": result.test_examples})
        shutil.rmtree(self._journal.outbox, ignore_errors=True)  # left by a process that was killed as it wrote
        self._journal.outbox.mkdir()
        write_artifacts(self._journal.outbox, self.run_id, result, data, self.health)
        self._write("files", folder=OUTBOX)
        return result

    def begin(self, tags: Mapping[str, object]) -> None:
        """Log what is known before training: configuration, environment, data."""
        self._write("params", values={key: str(value) for key, value in self._config.flat().items()})
        self.tags(tags)
        self._inputs({part: getattr(self._data, part) for part in ("train", "validation")})

    def _inputs(self, parts: Mapping[str, Examples]) -> None:
        self._write("inputs", datasets={part: _dataset(self._data, part, parts[part]) for part in parts})

    def _write(self, kind: str, **content: Any) -> None:
        self._journal.append(kind, **content)
        if self._courier is not None:
            self._courier.wake()

    def finish(self, status: str, seconds: float) -> None:
        """Log how the run ended, and wait until everything has arrived, or until the store has been silent too long.

        Args:
            status: "FINISHED", "FAILED" or "KILLED".
            seconds: As for `Courier.finish`.
        """
        complete = status == "FINISHED" or self.outcome == "diverged"
        with suppress(OSError):  # on a full disk: the error that ended the run says why
            self._write("end", status=status, time=_milliseconds(), complete=complete)
        if self._courier is None:
            self._journal.close()
            warn(
                f"run {self.run_id[:8]}: recorded in {folder_of(self.run_id)}, since MLflow is not installed here. "
                "Bring that folder to mlruns/runs where it is, and the next zoo command there delivers the run"
            )
            return
        problem = self._courier.finish(seconds)
        for reason in self._courier.refused:
            warn(f"run {self.run_id[:8]}: the tracking store refused {reason}")
        if problem is None:
            settle(self._journal, self.run_id, complete)
            return
        self._journal.close()
        warn(
            f"run {self.run_id[:8]}: the tracking store {shown_uri()} does not answer ({root(problem)}). What it did "
            f"not take lies in {folder_of(self.run_id)}, and the next zoo command that reaches the store delivers it"
        )


def _milliseconds() -> int:
    return int(time.time() * 1000)


def _final_metrics(result: Result) -> dict[str, float]:
    metrics = {
        "seconds": result.seconds,
        "sequences_per_second": result.sequences_per_second,
        "cropped_share": result.cropped_share,
        "padding_share": result.padding_share,
        "parameters": float(result.model.count_params()),
        "peak_memory_mb": environment.peak_memory(),
    }
    if result.best_epoch is not None:
        metrics["best_epoch"] = float(result.best_epoch)
    return metrics | result.scores


def _dataset(data: Data, part: str, examples: Examples) -> dict[str, str]:
    return {
        "name": f"{data.spec.name}/{part}",
        "digest": examples.digest()[:16],
        "source_type": "tfds",
        "source": json.dumps({"name": data.spec.name, "homepage": data.spec.homepage}),
        "profile": json.dumps({"sequences": len(examples), "steps": int(examples.lengths.sum())}),
    }
