"""Running text cut into windows, for language models."""

import math
from typing import Any

import keras
import numpy as np

from training.batches.batches import Batch
from training.batches.errors import InvalidPipeline
from training.datasets.base import Examples


class Windows(keras.utils.PyDataset):
    """Running text cut for truncated back-propagation through time: each batch continues the one before it.

    All documents, one behind the other, make `batch_size` streams of equal length. Item k is
    `({"features": int32 [batch_size, steps], "lengths": int32 [batch_size]}, next tokens int32 [batch_size, steps])`,
    steps k * steps to (k + 1) * steps of every stream; the last item may be shorter. A stateful model that is reset
    when an epoch begins sees each stream whole, and its gradients go back to the beginning of the window.

    Args:
        examples: Text; the tokens are the targets too.
        batch_size: Streams.
        steps: Length of a window: how far gradients go back.

    Attributes:
        epoch: Ignored, since the order is that of the text.
        cropped_share: Tokens at the end that do not fill a step of every stream, as a share of all.
        padding_share: 0.

    Raises:
        InvalidPipeline: The text is not text, or too short for so many streams.

    Example:
    >>> text = Examples([np.arange(2, 13, dtype="int32")], vocabulary=("", "[UNK]", *"abcdefghijk"))
    >>> inputs, following = Windows(text, batch_size=2, steps=3)[0]
    >>> inputs["features"].tolist(), following.tolist()
    ([[2, 3, 4], [7, 8, 9]], [[3, 4, 5], [8, 9, 10]])
    """

    def __init__(self, examples: Examples, batch_size: int, steps: int) -> None:
        super().__init__()
        if examples.vocabulary is None:
            raise InvalidPipeline("a language model is trained on text, and these sequences hold values")
        tokens = np.concatenate(list(examples.sequences))
        width = (len(tokens) - 1) // max(batch_size, 1)
        if batch_size < 1 or steps < 1 or width < 1:
            raise InvalidPipeline(
                f"received batch_size {batch_size} and window {steps} for a text of {len(tokens)} tokens, "
                "expected 1 or more of each and a batch of less than the tokens"
            )
        self._steps, self._batch_size = steps, batch_size
        self._streams = tokens[: width * batch_size].reshape(batch_size, width)
        self._following = tokens[1 : width * batch_size + 1].reshape(batch_size, width)
        self.epoch = 0
        self.cropped_share, self.padding_share = 1.0 - width * batch_size / (len(tokens) - 1), 0.0

    def shapes(self) -> tuple[Any, ...]:
        """As for `Batches`."""
        window = (self._batch_size, None), "int32"
        return {"features": window, "lengths": ((self._batch_size,), "int32")}, window

    def __len__(self) -> int:
        return math.ceil(self._streams.shape[1] / self._steps)

    def __getitem__(self, index: int) -> Batch:
        return self.batch(self.epoch, index)

    def batch(self, epoch: int, index: int) -> Batch:
        """Item `index` of any epoch."""
        window = slice(index * self._steps, (index + 1) * self._steps)
        features = self._streams[:, window]
        lengths = np.full(self._batch_size, features.shape[1], np.int32)
        return {"features": features, "lengths": lengths}, self._following[:, window]
