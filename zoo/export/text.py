"""Turns strings into tokens inside the graph, as in training."""

import re
import string
from collections.abc import Mapping
from typing import Any

from zoo.export.contract import Contract
from zoo.text import CUTS
from zoo.types import Tensor

UNKNOWN = 1  # the index of "[UNK]", as Keras's `TextVectorization` has it


def indices_of(text: str, contract: Contract) -> list[int]:
    """The tokens of `text`; none for a text without words or characters."""
    index: Mapping[str, int] = {piece: number for number, piece in enumerate(contract.vocabulary or ())}
    return [index.get(piece, UNKNOWN) for piece in CUTS[contract.tokens or "words"](text)]


class Tokeniser:
    """The same in TensorFlow operations.

    Attributes:
        table: The lookup table, which has to exist as long as the SavedModel.
    """

    def __init__(self, contract: Contract) -> None:
        import tensorflow as tf

        self._characters = contract.tokens == "characters"
        # Without the padding token, which is in no text. The keys of characters are code points, because strings of one
        # character would need another three operations.
        index: dict[Any, int] = {}
        for number, piece in enumerate(contract.vocabulary or ()):
            if self._characters and len(piece) == 1:
                index[ord(piece)] = number
            elif piece and not self._characters:
                index[piece] = number
        keys = tf.constant(list(index), tf.int64 if self._characters else tf.string)
        initializer = tf.lookup.KeyValueTensorInitializer(keys, tf.constant(list(index.values()), tf.int64))
        self.table = tf.lookup.StaticHashTable(initializer, UNKNOWN)

    def __call__(self, text: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens, int32 (batch, steps), 0 after the end of a row, and the number of steps of each row, int32 (batch,).

        Bytes that are not UTF-8 become U+FFFD, as in training. There is at least one step.
        """
        import tensorflow as tf

        text = tf.ensure_shape(text, (None,))
        if self._characters:
            pieces = tf.cast(tf.strings.unicode_decode(text, "UTF-8"), tf.int64)
        else:
            text = tf.strings.lower(tf.strings.unicode_transcode(text, "UTF-8", "UTF-8"))
            pieces = tf.strings.split(tf.strings.regex_replace(text, f"[{re.escape(string.punctuation)}]", ""))
        tokens = pieces.with_flat_values(self.table.lookup(pieces.flat_values))
        lengths = pieces.row_lengths()
        shape = tf.stack([pieces.nrows(), tf.maximum(tf.reduce_max(lengths), 1)])
        return tf.cast(tokens.to_tensor(0, shape=shape), tf.int32), tf.cast(lengths, tf.int32)
