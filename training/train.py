"""Trains one run from a configuration, for the command, studies and presets.

Heavy imports wait until a run is trained.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any

from zoo.quiet import import_keras

if TYPE_CHECKING:
    from rich.console import Console

    from training.config import Config
    from training.run.loop import Result


class Diverged(RuntimeError):
    """The loss of a run grew without bound.

    The run is recorded, but its model is useless.
    """

    exit_code = 1


def check_model(config: "Config") -> "Config":
    """Check a configuration by building its model once, before any data is read.

    Building runs computations, so the run's threads and device are set first. Where they cannot be set any more, no
    error is raised here: the training that follows sets the same ones and raises it.

    Args:
        config: From `training.config.load`.

    Returns:
        The same configuration.

    Raises:
        ConfigError: A layer rejects its arguments.
    """
    import_keras(find_devices=False)
    from training.config import find_dataset
    from training.run.device import DeviceFixed, DeviceNotFound, use_device
    from training.run.loop import build
    from training.run.tasks import model_task
    from training.run.threads import ThreadsFixed, use_threads

    with suppress(ThreadsFixed):
        use_threads(config.train.threads)
    with suppress(DeviceFixed, DeviceNotFound):
        use_device(config.train.device)
    import_keras()
    build(config, model_task(find_dataset(config.dataset).spec, embedding=config.model.embedding))
    return config


def train_one(
    config: "Config",
    console: "Console",
    resume: str | None = None,
    started: Callable[[str], None] = lambda run_id: None,
    callbacks: Sequence[Any] = (),
) -> "tuple[str, Result]":
    """Train and record the run that `config` describes, with progress on `console`.

    Args:
        config: The run.
        console: Where progress is shown.
        resume: The id of a run of this configuration to resume.
        started: Called with the run's id as soon as it has one.
        callbacks: Further Keras callbacks.

    Returns:
        The run's id and its result. On a host that is not the first of several nothing is recorded, and the id is "".

    Raises:
        CannotResume: The run was started with another configuration or other data, or is being trained elsewhere.
    """
    from training import tracking
    from training.run import checkpoints, distribution
    from training.run.device import use_device
    from training.run.loop import load_data, run
    from training.run.progress import ProgressBar
    from training.run.threads import use_threads

    use_threads(config.train.threads)
    use_device(config.train.device)
    data = load_data(config)
    if not distribution.is_first():
        return "", run(config, data=data)
    description = {
        "config": config.model_dump(mode="json"),
        "data": {part: getattr(data, part).digest() for part in ("train", "validation")},
    }
    # Two stacks, because the lock on the run's folder must be released after the recorder has finished the run.
    with ExitStack() as locks, ExitStack() as stack:
        if resume is not None:
            locks.enter_context(checkpoints.in_folder(resume))
            checkpoints.check_description(resume, description)
        recorder = stack.enter_context(tracking.record(config, data, resume))
        if resume is None:
            folder = locks.enter_context(checkpoints.in_folder(recorder.run_id))
            checkpoints.write_description(folder, description)
        started(recorder.run_id)
        kept = checkpoints.Checkpoints(checkpoints.folder_of(recorder.run_id))
        bar = stack.enter_context(ProgressBar(recorder.name, config.train.epochs, console))
        result = run(config, [recorder, bar, *callbacks], data, kept)
        result = recorder.result(result, data)
    if result.cropped_share:
        console.print(f"{result.cropped_share:.1%} of all training steps were cropped away by a maximum length")
    return recorder.run_id, result
