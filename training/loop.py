"""From a configuration to a trained model and its figures. Logs nothing and knows no tracker: callbacks do."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np

from training import augmentation
from training.config import Config, find_dataset
from training.datasets import Dataset, Examples, Spec
from training.feeding import BeginAnew, FollowEpoch, begin_anew, feed
from training.pipeline import Batches, Windows, class_weights, train_validation_split
from training.tasks import Scores, compile_arguments, guessing, model_task, score
from zoo.models import SequenceTask, build, fixed_steps

# A training loss this many times that of guessing means that the run has exploded, long before it overflows.
EXPLODED = 100.0

# Steps over which the gradients of a language model go back, where the configuration does not say.
_WINDOW = 100


@dataclass(frozen=True)
class Result:
    """What came of a run.

    Attributes:
        outcome: "finished" or "diverged".
        reason: Why it diverged and what to try, or `None`.
        model: The trained model, with the weights of the best epoch by validation loss.
        history: One dict an epoch: "train/loss", "validation/loss", and the same of the task's metric, such as
            "train/accuracy".
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

    dataset: Dataset
    train: Examples
    validation: Examples

    @property
    def spec(self) -> Spec:
        """Of the dataset."""
        return self.dataset.spec


class StopOnDivergence(keras.callbacks.Callback):
    """Stop at the first loss that is not finite, or that exceeds `EXPLODED` times that of guessing.

    Args:
        guessing: The loss of a model that knows nothing.
    """

    def __init__(self, guessing: float) -> None:
        super().__init__()
        self.limit = EXPLODED * guessing
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
    """Read the training split and set its validation part aside, where the dataset has not done that itself."""
    section = config.dataset
    dataset = find_dataset(section)
    in_memory = section.cache == "memory"
    train, validation = dataset.load("train", in_memory), dataset.validation()
    if validation is None:
        train, validation = train_validation_split(train, section.validation_fraction, seed=config.seed)
    return Data(dataset, train, validation)


def build_model(config: Config, task: SequenceTask) -> keras.Model:
    """Build and compile the model for `task`."""
    model = build(config.model.name, task, **config.model_arguments())
    optimizer = {
        "adam": keras.optimizers.Adam,
        "rmsprop": keras.optimizers.RMSprop,
        "sgd": keras.optimizers.SGD,
    }[config.optimizer.name]
    model.compile(
        # global_clipnorm scales the whole gradient; Keras's clipnorm would scale each weight's by itself.
        optimizer=optimizer(config.optimizer.learning_rate, global_clipnorm=config.optimizer.clipnorm),
        # JAX without compilation runs operation by operation, which no one wants.
        jit_compile=config.train.jit_compile or keras.backend.backend() == "jax",
        **compile_arguments(task),
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
    section = config.dataset
    task = model_task(data.spec, data.train, config.model.embedding)
    language = task.kind == "language_model"
    model = build_model(config, replace(task, stateful_batch=section.batch_size) if language else task)
    # The model's own fixed time axis crops just as a maximum length does, so both are reported as one.
    longest = min((limit for limit in (section.max_length, fixed_steps(model)) if limit), default=None)

    def in_order(examples: Examples) -> Batches | Windows:
        if language:
            return Windows(examples, section.batch_size, section.window or _WINDOW)
        return Batches(examples, section.batch_size, seed=0, shuffle=False, max_length=longest)

    train = in_order(data.train) if language else _training_batches(config, data, task, longest)
    divergence = StopOnDivergence(guessing(task))
    chosen = keras.callbacks.EarlyStopping(
        "val_loss", patience=config.train.patience or config.train.epochs, restore_best_weights=True
    )
    started = time.perf_counter()
    fed, steps = feed(train)
    validation, validation_steps = feed(in_order(data.validation), same_order=True)
    fitted = model.fit(
        fed,
        steps_per_epoch=steps,
        validation_data=validation,
        validation_steps=validation_steps,
        epochs=config.train.epochs,
        callbacks=[FollowEpoch(train), BeginAnew(), divergence, chosen, *callbacks],
        shuffle=False,  # the batches come in an order of their own
        verbose=0,
    )
    seconds = time.perf_counter() - started
    history = _history(fitted.history)
    # Of running text, the windows of all streams are what goes through the model.
    sequences = len(train) * section.batch_size if language else len(data.train)
    scored = divergence.reason is None

    def scores(examples: Examples) -> Scores:
        return evaluate(model, task, in_order(examples))

    return Result(
        outcome="finished" if scored else "diverged",
        reason=divergence.reason,
        model=_for_use(config, task, model) if language else model,
        history=history,
        best_epoch=chosen.best_epoch if history and scored else None,
        seconds=seconds,
        sequences_per_second=sequences * len(history) / seconds,
        cropped_share=train.cropped_share,
        padding_share=train.padding_share,
        validation=scores(data.validation) if scored else None,
        test=scores(data.dataset.load("test", section.cache == "memory")) if scored else None,
    )


def evaluate(model: keras.Model, task: SequenceTask, batches: Batches | Windows) -> Scores:
    """Score `model` on `batches`.

    Args:
        model: Built for `task`; a stateful one begins anew.
        task: What it answers.
        batches: What to score on, in order.
    """

    def answers() -> Iterator[Any]:
        for index in range(len(batches)):
            inputs, targets, *weights = batches[index]
            yield np.asarray(model.predict_on_batch(inputs)), targets, weights[0] if weights else None

    begin_anew(model)
    return score(task, answers())


def _training_batches(config: Config, data: Data, task: SequenceTask, longest: int | None) -> Batches:
    section = config.dataset
    return Batches(
        data.train,
        section.batch_size,
        section.buckets,
        seed=config.seed,
        max_length=longest,
        class_weights=class_weights(data.train, task.classes) if section.class_weights else None,
        augment=augmentation.chain(section.augment, data.train) if section.augment else None,
    )


def _for_use(config: Config, task: SequenceTask, trained: keras.Model) -> keras.Model:
    """The same model for sequences that begin anew, of any batch: trained states stay behind."""
    model = build_model(config, task)
    values = {variable.path: variable for variable in trained.variables}
    for variable in model.trainable_variables:
        variable.assign(values[variable.path])
    for variable in model.non_trainable_variables:
        if variable.path in values:  # the seeds of dropout have names of their own
            variable.assign(values[variable.path])
    return model


# The metrics of an epoch, in the order in which the MLflow UI should offer them
_METRICS = ("loss", "accuracy", "mean_absolute_error")


def metric_names(logs: Mapping[str, float]) -> dict[str, float]:
    """Keras's logs of an epoch under the names that this project uses.

    Example:
    >>> metric_names({"loss": 2, "val_loss": 1})
    {'validation/loss': 1.0, 'train/loss': 2.0}
    """
    names = {f"{prefix}{metric}": f"{part}/{metric}" for prefix, part in _PARTS for metric in _METRICS}
    return {name: float(logs[key]) for key, name in names.items() if key in logs}


_PARTS = (("val_", "validation"), ("", "train"))


def _history(columns: Mapping[str, Sequence[float]]) -> list[dict[str, float]]:
    epochs = len(columns.get("loss", ()))
    rows = ({key: values[epoch] for key, values in columns.items() if epoch < len(values)} for epoch in range(epochs))
    return [metric_names(row) for row in rows]
