import string

import keras
import numpy as np
import pytest
import tensorflow as tf

from training.datasets.base import InvalidExamples
from training.datasets.text import Indexer, text_of, vocabulary_of
from zoo.text import characters, words

ODD_TEXTS = [
    "",
    "   ",
    "... !?",
    "A plain text",
    " tabs\tand\nlines\r\nand\x0bfeeds\x0c ",
    "A film.<br /><br />Great<br/>!",
    "It's well-known: 1,000.50 $ (50%)",
    string.punctuation,
    f"a{string.punctuation}b",
    "École À LA CARTE, straße İSTANBUL ǅ Σίσυφος ΣΊΣΥΦΟΣ",
    "e\u0301 E\u0301",
    "no\u00a0break em\u2003space ideographic\u3000space",
    "file\x1cgroup\x1drecord\x1eunit\x1fseparator next\x85line line\u2028para\u2029",
    "“quotes” – dash… ¿qué? «oui»",
    "\ufeffmark zero\u200bwidth joiner\u200d",
    "👍🏽 \U0001f1e8\U0001f1ed 日本語 テキスト العربية",
    "nul\x00byte bell\x07 delete\x7f",
    "[UNK] unk UNK",
    "x" * 5000 + " " + "y " * 5000,
]


def random_texts(count: int) -> list[str]:
    """Half ASCII, half anything that UTF-8 can hold; without NUL, which the layer's vocabulary cannot hold."""
    generator = np.random.default_rng(1)
    texts = []
    for _ in range(count):
        points = np.where(
            generator.random(30) < 0.5, generator.integers(1, 128, 30), generator.integers(128, 0x110000, 30)
        )
        texts.append("".join(chr(point) for point in points if not 0xD800 <= point < 0xE000))
    return texts


@pytest.mark.parametrize("texts", [ODD_TEXTS, random_texts(500)], ids=["odd", "random"])
def test_words_are_those_of_the_keras_layer(texts: list[str]) -> None:
    vocabulary = vocabulary_of(map(words, texts))
    # One word in three is left out, so that both must also agree on what is unknown.
    vocabulary = (*vocabulary[:2], *(word for index, word in enumerate(vocabulary[2:]) if index % 3))
    layer = keras.layers.TextVectorization(
        standardize="lower_and_strip_punctuation", split="whitespace", vocabulary=list(vocabulary[2:]), ragged=True
    )
    expected = layer(tf.constant([text.encode() for text in texts])).to_list()
    indexer = Indexer(vocabulary)
    for text, tokens in zip(texts, expected, strict=True):
        assert indexer(words(text)).tolist() == (tokens or [1]), text


def test_characters_are_those_of_tensorflow() -> None:
    expected = tf.strings.unicode_split([text.encode() for text in ODD_TEXTS], "UTF-8").to_list()
    assert [[character.encode() for character in characters(text)] for text in ODD_TEXTS] == expected


def test_the_most_frequent_come_first_and_ties_by_code_point() -> None:
    # In UTF-16 the order of the last two is the other way round.
    texts = [["b", "z", "\U0001f44d"], ["z", "Z", "\ufffd"], ["z", "b"]]
    assert vocabulary_of(texts) == ("", "[UNK]", "z", "b", "Z", "\ufffd", "\U0001f44d")
    assert vocabulary_of(texts[::-1], size=3) == ("", "[UNK]", "z", "b", "Z")


def test_tokens_are_int32_and_never_none_at_all() -> None:
    indexer = Indexer(vocabulary_of([["good", "good", "film"]]))
    tokens = indexer(["film", "good", "bad", ""])
    assert tokens.dtype == np.int32
    assert tokens.tolist()[:3] == [3, 2, 1]
    assert indexer([]).tolist() == [1]


def test_characters_there_and_back() -> None:
    text = "To be,\nor not to be: é 👍"
    vocabulary = vocabulary_of([characters(text)])
    assert text_of(Indexer(vocabulary)(characters(text)), vocabulary) == text
    assert text_of(Indexer(vocabulary)(characters("to Zoë\n")), vocabulary) == "to [UNK]o[UNK]\n"
    assert text_of([0, 0], vocabulary) == ""


@pytest.mark.parametrize("token", [-1, 3])
def test_tokens_of_another_vocabulary_are_refused(token: int) -> None:
    with pytest.raises(InvalidExamples, match=f"received token {token}, expected 0 to 2"):
        text_of([2, token], ("", "[UNK]", "a"))
