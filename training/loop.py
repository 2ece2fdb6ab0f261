"""From a configuration to a trained model and its figures. Logs nothing and knows no tracker: callbacks do."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from training import datasets
from training.config import Config
from training.datasets import Examples, Spec
from training.feeding import FollowEpoch, feed
from training.pipeline import Batches, channel_statistics, train_validation_split
from zoo.models import SequenceTask, build, fixed_steps

# A training loss this many times that of guessing means that the run has exploded, long before it overflows.
EXPLODED = 100.0


@dataclass(frozen=True)
class Scores:
    """How well a model does on one set of examples.

    Attributes:
        loss: Mean cross-entropy in nats.
        accuracy: Share of right answers.
        confusion: Counts (classes, classes): row the truth, column the answer.
    """

    loss: float
    accuracy: float
    confusion: NDArray[np.int64] = field(repr=False)


@dataclass(frozen=True)
class Result:
    """What came of a run.

    Attributes:
        outcome: "finished" or "diverged".
        reason: Why it diverged and what to try, or `None`.
        model: The trained model, with the weights of the best epoch by validation loss.
        history: One dict an epoch: "train/loss", "train/accuracy", "validation/loss", "validation/accuracy".
        best_epoch: Its index in `history`, or `None` where no epoch ended.
        seconds: Wall-clock of training alone.
        sequences_per_second: Training sequences over that time.
        cropped_share: Share of all training steps that the model never saw, cut off by a maximum length.
        padding_share: Share of padded steps among those computed.
        validation: Scores of the best epoch, or `None` if diverged.
        test: Scores on the test split, opened once, after the weights were chosen; `None` if diverged.
    """

    outcome: str
    reason: str | None
    model: keras.Model
    history: list[dict[str, float]]
    best_epoch: int | None
    seconds: float
    sequences_per_second: float
    cropped_share: float
    padding_share: float
    validation: Scores | None
    test: Scores | None


@dataclass(frozen=True)
class Data:
    """The two parts of the training split. The test split is not read before a model is chosen."""

    spec: Spec
    train: Examples
    validation: Examples


class StopOnDivergence(keras.callbacks.Callback):
    """Stop at the first loss that is not finite, or that exceeds `EXPLODED` times that of guessing.

    Args:
        classes: Number of classes; guessing costs log(classes) nats.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.limit = EXPLODED * math.log(classes)
        self.reason: str | None = None
        self._epoch = 0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._check("training loss", (logs or {}).get("loss", 0.0))

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._check("validation loss", (logs or {}).get("val_loss", 0.0))

    def _check(self, what: str, loss: float) -> None:
        if self.reason is None and not abs(loss) <= self.limit:  # written so that NaN is caught too
            self.reason = (
                f"diverged: {what} reached {loss:.4g} in epoch {self._epoch + 1} "
                f"(guessing costs {self.limit / EXPLODED:.2f}). Try optimizer.clipnorm=1, a smaller "
                "optimizer.learning_rate, or a bounded activation such as relu6 or hard_tanh: an unbounded one lets "
                "the cell state grow in the forward pass, which clipping gradients cannot cure"
            )
            self.model.stop_training = True


def load_data(config: Config) -> Data:
    """Read the training split and set its validation part aside."""
    dataset = datasets.get(config.dataset.name)
    train, validation = train_validation_split(
        dataset.load("train"), config.dataset.validation_fraction, seed=config.seed
    )
    return Data(dataset.spec, train, validation)


def build_model(config: Config, data: Data) -> keras.Model:
    """Build and compile the model, with the statistics of the training part inside."""
    mean, variance = channel_statistics(data.train)
    task = SequenceTask(
        channels=data.spec.channels,
        classes=len(data.spec.classes),
        mean=tuple(mean.tolist()),
        variance=tuple(variance.tolist()),
    )
    model = build(config.model.name, task, **config.model_arguments())
    optimizer = {
        "adam": keras.optimizers.Adam,
        "rmsprop": keras.optimizers.RMSprop,
        "sgd": keras.optimizers.SGD,
    }[config.optimizer.name]
    model.compile(
        # global_clipnorm scales the whole gradient; Keras's clipnorm would scale each weight's by itself.
        optimizer=optimizer(config.optimizer.learning_rate, global_clipnorm=config.optimizer.clipnorm),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
        # JAX without compilation runs operation by operation, which no one wants.
        jit_compile=config.train.jit_compile or keras.backend.backend() == "jax",
    )
    return model


def run(config: Config, callbacks: Sequence[keras.callbacks.Callback] = (), data: Data | None = None) -> Result:
    """Train the model that `config` describes and score it.

    The best epoch is chosen by validation loss; the test split is read after that, once.

    Args:
        config: The run.
        callbacks: Keras callbacks, for progress and tracking.
        data: From `load_data`, where the caller wanted to see it first.

    Returns:
        The `Result`; a run that diverges is a result too, not an exception.
    """
    data = data or load_data(config)
    # After the data: reading it may draw random numbers, the first time only.
    keras.utils.set_random_seed(config.seed)
    model = build_model(config, data)
    section = config.dataset
    # The model's own fixed time axis crops just as a maximum length does, so both are reported as one.
    longest = min((limit for limit in (section.max_length, fixed_steps(model)) if limit), default=None)
    train = Batches(data.train, section.batch_size, section.buckets, seed=config.seed, max_length=longest)
    validation = _in_order(data.validation, section.batch_size, longest)

    divergence = StopOnDivergence(len(data.spec.classes))
    chosen = keras.callbacks.EarlyStopping(
        "val_loss", patience=config.train.patience or config.train.epochs, restore_best_weights=True
    )
    started = time.perf_counter()
    fitted = model.fit(
        feed(train),
        validation_data=feed(validation),
        epochs=config.train.epochs,
        callbacks=[FollowEpoch(train), divergence, chosen, *callbacks],
        shuffle=False,  # the batches come in an order of their own
        verbose=0,
    )
    seconds = time.perf_counter() - started
    history = _history(fitted.history)
    scored = divergence.reason is None
    return Result(
        outcome="finished" if scored else "diverged",
        reason=divergence.reason,
        model=model,
        history=history,
        best_epoch=chosen.best_epoch if history and scored else None,
        seconds=seconds,
        sequences_per_second=len(data.train) * len(history) / seconds,
        cropped_share=train.cropped_share,
        padding_share=train.padding_share,
        validation=evaluate(model, data.validation, section.batch_size, longest) if scored else None,
        test=evaluate(model, datasets.get(section.name).load("test"), section.batch_size, longest) if scored else None,
    )


def evaluate(model: keras.Model, examples: Examples, batch_size: int, max_length: int | None = None) -> Scores:
    """Score `model` on `examples`.

    Args:
        model: Gives logits (batch, classes).
        examples: What to score on.
        batch_size: Sequences at a time.
        max_length: Crop longer sequences to this many steps.
    """
    batches = _in_order(examples, batch_size, max_length)
    parts = [(model.predict_on_batch(inputs), labels) for inputs, labels in (batches[i] for i in range(len(batches)))]
    logits = np.concatenate([np.asarray(part) for part, _ in parts]).astype("float64")
    labels = np.concatenate([label for _, label in parts])
    # log softmax, shifted so that exp cannot overflow
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_probabilities = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    answers = logits.argmax(axis=1)
    confusion = np.zeros((logits.shape[1],) * 2, np.int64)
    np.add.at(confusion, (labels, answers), 1)
    return Scores(
        loss=float(-log_probabilities[np.arange(len(labels)), labels].mean()),
        accuracy=float((answers == labels).mean()),
        confusion=confusion,
    )


def _in_order(examples: Examples, batch_size: int, max_length: int | None) -> Batches:
    return Batches(examples, batch_size, seed=0, shuffle=False, max_length=max_length)


# Keras's names and ours, in the order in which the MLflow UI should offer them
METRICS = {
    "val_loss": "validation/loss",
    "val_accuracy": "validation/accuracy",
    "loss": "train/loss",
    "accuracy": "train/accuracy",
}


def metric_names(logs: Mapping[str, float]) -> dict[str, float]:
    """Keras's logs of an epoch under the names that this project uses.

    Example:
    >>> metric_names({"loss": 2, "val_loss": 1})
    {'validation/loss': 1.0, 'train/loss': 2.0}
    """
    return {name: float(logs[key]) for key, name in METRICS.items() if key in logs}


def _history(columns: Mapping[str, Sequence[float]]) -> list[dict[str, float]]:
    epochs = len(columns.get("loss", ()))
    rows = ({key: values[epoch] for key, values in columns.items() if epoch < len(values)} for epoch in range(epochs))
    return [metric_names(row) for row in rows]
