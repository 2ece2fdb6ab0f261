"""Trains and scores the model that a configuration describes; callbacks do the tracking."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from training.batches.batches import Batches
from training.batches.errors import InvalidPipeline
from training.batches.splitting import train_validation_split
from training.batches.statistics import check_labelled
from training.batches.windows import Windows
from training.config import Config, ConfigError, find_dataset
from training.datasets import Dataset, Examples, Spec
from training.datasets.store.portable import where_prepared
from training.run import distribution
from training.run.checkpoints import Checkpoints
from training.run.optimizer import make_optimizer, precision
from training.run.state import RunState, StopOnDivergence
from training.run.tasks import TASKS, Scores, compile_arguments, guessing, model_task, score
from training.run.tf_input import BeginAnew, FollowEpoch, begin_anew, feed
from zoo import models
from zoo.models import SequenceTask, fixed_steps


@dataclass(frozen=True)
class Result:
    """The result of a run.

    Attributes:
        outcome: "finished" or "diverged".
        reason: Why it diverged and what to try, or `None`.
        model: The trained model, with the weights of the best epoch by validation loss.
        history: One dict per epoch: "train/loss", "validation/loss", and the same of the task's metric, such as
            "train/accuracy".
        best_epoch: Index of the best epoch in `history`, or `None` where no epoch ended.
        seconds: Wall-clock time of training alone.
        sequences_per_second: Training sequences divided by that time.
        cropped_share: Share of all training steps that a maximum length cut off.
        padding_share: Share of padded steps among the computed ones.
        validation: Scores of the best epoch; `None` if the run diverged.
        test: Scores on the test split, which is read once, after the weights were chosen; `None` if the run diverged,
            or if no step that the model reads has a label.
        test_examples: The test split; `None` if it was not read.
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
    test_examples: Examples | None = field(repr=False)

    @property
    def scores(self) -> dict[str, float]:
        """Scores on validation and test, by their tracked names; empty if the run diverged."""
        parts = {"best_validation": self.validation, "test": self.test}
        return {
            f"{part}/{name}": value
            for part, scores in parts.items()
            if scores is not None
            for name, value in scores.figures.items()
        }


@dataclass(frozen=True)
class Data:
    """The two parts of the training split. The test split is not read before a model is chosen."""

    dataset: Dataset
    train: Examples
    validation: Examples

    @property
    def spec(self) -> Spec:
        """The description of the dataset."""
        return self.dataset.spec


def load_data(config: Config) -> Data:
    """Read the training split and set a validation part aside, unless the dataset brings one."""
    section = config.dataset
    dataset = find_dataset(section)
    in_memory = section.cache == "memory"
    with where_prepared(section.name):
        train, validation = dataset.load("train", in_memory), dataset.validation()
    if validation is None:
        train, validation = train_validation_split(train, section.validation_fraction, seed=config.seed)
    return Data(dataset, train, validation)


def build(config: Config, task: SequenceTask) -> keras.Model:
    """Build the model of `config` for `task`.

    Raises:
        ConfigError: A layer rejects its arguments.
    """
    try:
        with precision(config.train.precision):
            return models.build(config.model.name, task, **config.model_arguments())
    except ValueError as error:
        raise ConfigError(f"model {config.model.name!r} refuses its arguments: {error}") from None


def build_model(config: Config, task: SequenceTask) -> keras.Model:
    """Build and compile the model for `task`."""
    model = build(config, task)
    _compile(model, config, task)
    return model


def _compile(
    model: keras.Model,
    config: Config,
    task: SequenceTask,
    steps_per_epoch: int = 1,
    devices: distribution.Devices = distribution.ONE,
) -> None:
    model.compile(
        optimizer=devices.optimizer(make_optimizer(config.optimizer, config.train, steps_per_epoch)),
        # Without compilation JAX runs operation by operation, which is far too slow to train with.
        jit_compile=config.train.jit_compile or keras.backend.backend() == "jax",
        **devices.compile_arguments(compile_arguments(task, config.train.label_smoothing)),
    )


def run(
    config: Config,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    data: Data | None = None,
    checkpoints: Checkpoints | None = None,
) -> Result:
    """Train the model that `config` describes and score it.

    The best epoch is chosen by validation loss; the test split is read after that, once.

    Args:
        config: The run.
        callbacks: Keras callbacks, for progress and tracking.
        data: From `load_data`, where the caller has read it already.
        checkpoints: The checkpoints of the run. If there is one, the run resumes from it and ends with the same
            weights, bit for bit, as a run without interruption, given the same machine, versions and threads.

    Returns:
        The `Result`; a run that diverges raises nothing and has a result too.
    """
    data = data or load_data(config)
    # Only after the data is read: preparing it, the first time, may draw random numbers.
    keras.utils.set_random_seed(config.seed)
    task = model_task(data.spec, data.train, config.model.embedding)
    kind, size = TASKS[data.spec.task], config.dataset.batch_size
    trained_as = kind.trained_as(task, size)
    clipped = config.optimizer.clipnorm is not None or config.optimizer.clipvalue is not None
    divergence = StopOnDivergence(guessing(task), clipped)
    state = RunState(config.train.patience, divergence, checkpoints)
    how = config.train
    devices = distribution.start(how.distribution, kind.keeps_states, size, how.jit_compile, how.device)
    with devices.scope():
        model, batches = _train(config, data, trained_as, devices, state, [divergence, *callbacks])
    seconds, history = state.seconds, state.history
    if devices.spread:
        model = _for_use(config, trained_as, model)
    scored = divergence.reason is None

    def scores(examples: Examples) -> Scores:
        return evaluate(model, task, kind.batches_in_order(config, examples, longest_seen(config, model)))

    test = data.dataset.load("test", config.dataset.cache == "memory") if scored else None
    sequences = kind.sequences_per_epoch(data.train, batches, size)
    return Result(
        outcome="finished" if scored else "diverged",
        reason=divergence.reason,
        model=_for_use(config, task, model) if kind.keeps_states else model,
        history=history,
        best_epoch=state.best_epoch if scored else None,
        seconds=seconds,
        sequences_per_second=sequences * len(history) / seconds,
        cropped_share=batches.cropped_share,
        padding_share=batches.padding_share,
        validation=scores(data.validation) if scored else None,
        test=scores(test) if test is not None and _can_be_scored(test, longest_seen(config, model)) else None,
        test_examples=test,
    )


def _can_be_scored(test: Examples, longest: int | None) -> bool:
    """Whether the test split has a label at any step that the model reads.

    The split is read after training, so it cannot be refused before, and a trained model is worth keeping without it.
    """
    try:
        check_labelled(test, "test", longest)
    except InvalidPipeline:
        return False
    return True


def _train(
    config: Config,
    data: Data,
    task: SequenceTask,
    devices: distribution.Devices,
    state: RunState,
    callbacks: Sequence[keras.callbacks.Callback],
) -> tuple[keras.Model, Batches | Windows]:
    """Train a model; returns it with the weights of its best epoch, and its training batches."""
    # Compiled again below: the schedule needs the number of batches, and cropping those needs the built model.
    model = build_model(config, task)
    longest = longest_seen(config, model)
    for split, part in (("training", data.train), ("validation", data.validation)):
        check_labelled(part, split, longest)
    kind = TASKS[data.spec.task]
    batches = kind.training_batches(config, task, data.train, longest)
    _compile(model, config, task, len(batches), devices)
    state.resume(model)
    if not state.ended:
        batches.epoch = len(state.history)
        fed, steps = feed(devices.share(batches))
        in_order = devices.share(kind.batches_in_order(config, data.validation, longest), evaluation=True)
        validation, validation_steps = feed(in_order, same_order=True)
        model.fit(
            fed,
            steps_per_epoch=steps,
            validation_data=validation,
            validation_steps=validation_steps,
            initial_epoch=len(state.history),
            epochs=config.train.epochs,
            callbacks=[FollowEpoch(batches), BeginAnew(), *callbacks, state],
            shuffle=False,  # the batches are shuffled already, by seed and epoch
            verbose=0,
        )
    state.choose_best(model)
    return model, batches


def evaluate(model: keras.Model, task: SequenceTask, batches: Batches | Windows) -> Scores:
    """Score `model` on `batches`.

    Args:
        model: Built for `task`; the states of a stateful one are reset.
        task: The task of the model.
        batches: The batches to score, in order.
    """

    def answers() -> Iterator[Any]:
        for index in range(len(batches)):
            inputs, targets, *weights = batches[index]
            yield np.asarray(model.predict_on_batch(inputs)), targets, weights[0] if weights else None

    begin_anew(model)
    return score(task, answers())


def longest_seen(config: Config, model: keras.Model) -> int | None:
    """The number of steps after which sequences are cropped, or `None`.

    It is the configured maximum length or the fixed time axis of the model, whichever is less.
    """
    return min((limit for limit in (config.dataset.max_length, fixed_steps(model)) if limit), default=None)


def _for_use(config: Config, task: SequenceTask, trained: keras.Model) -> keras.Model:
    """Copy the trained model into one that takes batches of any size and starts from zero states."""
    model = build_model(config, task)
    values = {variable.path: variable.numpy() for variable in trained.variables}
    for variable in model.trainable_variables:
        variable.assign(values[variable.path])
    for variable in model.non_trainable_variables:
        if variable.path in values:  # the seeds of dropout are named differently in each model
            variable.assign(values[variable.path])
    return model
