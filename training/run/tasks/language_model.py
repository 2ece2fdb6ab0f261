"""The next token at each step of running text."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras

from training.batches.batches import Batches
from training.batches.windows import Windows
from training.config import Config
from training.datasets import Examples
from training.run.tasks.classes import Classes
from zoo.models import SequenceTask

# Steps over which gradients go back, and on which the gates are watched, where the configuration does not say.
_WINDOW = 100

# Beside the other artifacts of a run.
_SAMPLE_FILE = "sample.txt"


class LanguageModel(Classes):
    """Trained window by window; each batch continues the one before it."""

    keeps_states = True
    guesses_from_data = True
    has_confusion = False

    def guessing(self, task: SequenceTask) -> float:
        return math.log(task.vocabulary or task.classes)

    def trained_as(self, task: SequenceTask, batch_size: int) -> SequenceTask:
        return replace(task, stateful_batch=batch_size)

    def training_batches(
        self, config: Config, task: SequenceTask, examples: Examples, longest: int | None
    ) -> Batches | Windows:
        return self.batches_in_order(config, examples, longest)

    def batches_in_order(self, config: Config, examples: Examples, longest: int | None) -> Batches | Windows:
        return Windows(examples, config.dataset.batch_size, config.dataset.window or _WINDOW)

    def probe(self, config: Config, examples: Examples, longest: int | None) -> Any:
        return self.batches_in_order(config, examples, longest)[0]

    def sequences_per_epoch(self, examples: Examples, batches: Batches | Windows, batch_size: int) -> int:
        return len(batches) * batch_size  # the windows of all streams

    def write_more(self, folder: Path, model: keras.Model, vocabulary: tuple[str, ...]) -> None:
        from training.run.sampling import sample

        (folder / _SAMPLE_FILE).write_text(sample(model, vocabulary, characters=500, seed=0) + "\n")
