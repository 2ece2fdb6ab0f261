"""From texts to tokens and back: the vocabulary that numbers them, and datasets made of them."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, cast

import numpy as np
from numpy.typing import NDArray

from training.datasets.base import PADDING, UNKNOWN, Examples, InvalidExamples
from training.datasets.store import raw_files, rows as row_store
from zoo.text import CUTS


def vocabulary_of(texts: Iterable[Sequence[str]], size: int | None = None) -> tuple[str, ...]:
    """The most frequent tokens, behind `PADDING` and `UNKNOWN`.

    Args:
        texts: The tokens of each text, of the training split only; read once.
        size: How many tokens to keep, those two not counted; None keeps all.

    Returns:
        The token of each index. The most frequent comes first; equally frequent ones come in the order of their code
        points, so the vocabulary of the same texts is the same on every machine.

    Example:
    >>> vocabulary_of([["b", "a"], ["c", "b"]], size=2)
    ('', '[UNK]', 'b', 'a')
    """
    counts: Counter[str] = Counter()
    for tokens in texts:
        counts.update(tokens)
    return (PADDING, UNKNOWN, *sorted(counts, key=lambda token: (-counts[token], token))[:size])


class Indexer:
    """Turns tokens into indices into a vocabulary.

    Args:
        vocabulary: From `vocabulary_of`.

    Example:
    >>> indexer = Indexer(("", "[UNK]", "good", "film"))
    >>> indexer(["good", "old", "film"]).tolist(), indexer([]).tolist()
    ([2, 1, 3], [1])
    """

    def __init__(self, vocabulary: tuple[str, ...]) -> None:
        self._unknown = vocabulary.index(UNKNOWN)
        self._index = {token: index for index, token in enumerate(vocabulary)}

    def __call__(self, tokens: Sequence[str]) -> NDArray[np.int32]:
        """The index of every token, int32 `[steps]`; of no token at all, the one step `UNKNOWN`."""
        return np.array([self._index.get(token, self._unknown) for token in tokens] or [self._unknown], np.int32)


def text_of(tokens: Sequence[int] | NDArray[np.int32], vocabulary: tuple[str, ...]) -> str:
    """The text that tokens of characters stand for.

    Args:
        tokens: Indices into the vocabulary, `[steps]`.
        vocabulary: Of characters.

    Returns:
        One character a token; padding gives nothing, and a character that is not in the vocabulary gives `UNKNOWN`.

    Raises:
        InvalidExamples: A token is not an index into the vocabulary.

    Example:
    >>> text_of([2, 3, 2, 0], ("", "[UNK]", "o", "h"))
    'oho'
    """
    outside = [int(token) for token in tokens if not 0 <= token < len(vocabulary)]
    if outside:
        raise InvalidExamples(
            f"received token {outside[0]}, expected 0 to {len(vocabulary) - 1}: give the vocabulary that the tokens "
            "were made with"
        )
    return "".join(vocabulary[token] for token in tokens)


# Part of the folder's name: to be raised when the tokens or the vocabulary of the same texts become others.
_FORMAT = 1


class TextDataset(row_store.RowsDataset):
    """Texts of an official TFDS builder, each of them whole, as indices into the vocabulary of the training split.

    A subclass sets `spec` and what differs from the values here:

    Attributes:
        source: The builder's name.
        config: Its configuration, of a builder that has some.
        version: The version of the builder, or of that configuration.
        files: Names of the raw files needed, of a builder with more of them for other configurations.
        parts: The builder's split of each of ours, and of what else is kept.
        fields: The features that make up a text, joined by a blank.
        label: The feature that holds the label, where there is one.
        tokens: What a text is cut into.
        vocabulary_size: How many tokens have an index of their own; the others are `UNKNOWN`. None: all have.
    """

    config: str | None = None
    version = "1.0.0"
    files: tuple[str, ...] | None = None
    fields: tuple[str, ...] = ("text",)
    label: str | None = "label"
    tokens: Literal["words", "characters"] = "words"
    vocabulary_size: int | None = None

    def _part(self, part: str) -> Examples:
        folder = self._folder(part)
        if row_store.is_made(folder):
            return row_store.read(folder)
        vocabulary = self._vocabulary(part)
        return row_store.read_or_make(folder, lambda: self._indexed(part, vocabulary), lambda: vocabulary)

    def _made_of(self) -> str:
        return f"{self.version}-{self.tokens}{_FORMAT}-{self.vocabulary_size or 'all'}"

    def _vocabulary(self, part: str) -> tuple[str, ...]:
        if part == "train":
            tokenise = CUTS[self.tokens]
            return vocabulary_of((tokenise(text) for text, _ in self._texts(part)), self.vocabulary_size)
        return cast(tuple[str, ...], self._part("train").vocabulary)

    def _indexed(self, part: str, vocabulary: tuple[str, ...]) -> Iterator[row_store.Row]:
        tokenise, indexer = CUTS[self.tokens], Indexer(vocabulary)
        rows = (row_store.Row(indexer(tokenise(text)), label) for text, label in self._texts(part))
        total = self.spec.counts.get(part)
        return rows if total is None else row_store.tracked(rows, total, f"{self.spec.name}, {part}")

    def _texts(self, part: str) -> Iterator[tuple[str, int | None]]:
        for row in raw_files.read_official(self.source, self.parts[part], self.config, self.files):
            # Bytes that are not UTF-8 become U+FFFD: one bad byte should not cost a whole text.
            text = b" ".join(row[field] for field in self.fields).decode(errors="replace")
            yield text, None if self.label is None else int(row[self.label])
