"""The state of a run after each epoch, and the rules by which it ends."""

import time
from typing import Any

import keras

from training.run.checkpoints import Checkpoint, Checkpoints, remember, restore
from training.run.metrics import epoch_metrics

# Multiples of the loss of guessing. At the end of an epoch a run rarely recovers from the first, never from the second.
_EXPLODED, _BEYOND_RETURN = 1e2, 1e6


class StopOnDivergence(keras.callbacks.Callback):
    """Stop a run whose loss has diverged.

    After every batch the training loss must be finite and at most a million times the loss of guessing. After every
    epoch the validation loss must be finite and at most a hundred times the loss of guessing. A spike from which
    training recovers within the epoch does not stop the run.

    Args:
        guessing: The loss of a model that ignores its inputs.
        clipped: Whether gradients are clipped already, so that clipping is not advised.
    """

    def __init__(self, guessing: float, clipped: bool = False) -> None:
        super().__init__()
        self.reason: str | None = None
        self._guessing, self._clipped, self._epoch = guessing, clipped, 0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._check("training loss", (logs or {}).get("loss", 0.0), _BEYOND_RETURN)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._check("validation loss", (logs or {}).get("val_loss", 0.0), _EXPLODED)

    def _check(self, what: str, loss: float, times: float) -> None:
        if self.reason is None and not abs(loss) <= times * self._guessing:  # negated, so that NaN counts as diverged
            clip = "" if self._clipped else "optimizer.clipnorm=1, "
            self.reason = (
                f"diverged: {what} reached {loss:.4g} in epoch {self._epoch + 1} (guessing: {self._guessing:.2f}). "
                f"Try {clip}a smaller optimizer.learning_rate, or a bounded activation such as relu6 or hard_tanh: an "
                "unbounded one lets the cell state grow in the forward pass, which clipping gradients cannot cure"
            )
            self.model.stop_training = True


class RunState(keras.callbacks.Callback):
    """The history of a run, and the weights of its best epoch by validation loss.

    It stops the run when the loss has not improved for long, as `keras.callbacks.EarlyStopping` does, and writes
    checkpoints, from which another `RunState` resumes. It must be the last callback: another one may stop the run, and
    the checkpoint has to record that.

    Args:
        patience: Epochs without a better loss before the run stops; `None` never stops it.
        divergence: The callback that knows why a run was stopped.
        checkpoints: Where checkpoints are kept, or `None`.

    Attributes:
        history: As in `Result`.
        best_epoch: As in `Result`.
        ended: Whether no epoch follows.
    """

    def __init__(
        self, patience: int | None, divergence: StopOnDivergence, checkpoints: Checkpoints | None = None
    ) -> None:
        super().__init__()
        self.history: list[dict[str, float]] = []
        self.best_epoch: int | None = None
        self.ended = False
        self._patience, self._divergence, self._checkpoints = patience, divergence, checkpoints
        self._best_weights: list[Any] = []
        self._seconds, self._began = 0.0, time.perf_counter()

    @property
    def seconds(self) -> float:
        """Wall-clock time of training, including earlier processes of a resumed run."""
        return self._seconds + time.perf_counter() - self._began

    def resume(self, model: keras.Model) -> None:
        """Set `model`, its optimizer and this object to the latest checkpoint, if there is one."""
        kept = self._checkpoints.latest() if self._checkpoints else None
        if kept is None:
            return
        restore(model, kept.arrays)
        self._best_weights = [kept.arrays[f"best/{place}"] for place in range(len(model.weights))]
        self.history, self.best_epoch = kept.facts["history"], kept.facts["best_epoch"]
        self._seconds, self.ended = kept.facts["seconds"], kept.facts["ended"]
        self._divergence.reason = kept.facts["reason"]

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.history.append(epoch_metrics(logs or {}))
        losses = [row["validation/loss"] for row in self.history]
        if self.best_epoch is None or losses[-1] < losses[self.best_epoch]:
            self.best_epoch, self._best_weights = epoch, self.model.get_weights()
        if self._patience is not None and epoch - self.best_epoch >= self._patience:
            self.model.stop_training = True
        self.ended = self.model.stop_training or epoch + 1 == self.params["epochs"]
        if self._checkpoints and (self.ended or self._checkpoints.is_due):
            self._checkpoints.save(self._checkpoint())

    def choose_best(self, model: keras.Model) -> None:
        """Give `model` the weights of the best epoch."""
        if self._best_weights:
            model.set_weights(self._best_weights)

    def _checkpoint(self) -> Checkpoint:
        facts = {
            "history": self.history,
            "best_epoch": self.best_epoch,
            "seconds": self.seconds,
            "ended": self.ended,
            "reason": self._divergence.reason,
        }
        best = {f"best/{place}": array for place, array in enumerate(self._best_weights)}
        return Checkpoint(len(self.history), facts, remember(self.model) | best)
