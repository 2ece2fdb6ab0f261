"""Cuts texts into tokens, the same in training and in the graph of `zoo.export`."""

import string

_PUNCTUATION = string.punctuation.encode()


def words(text: str) -> list[str]:
    """The words of a text, the same as those of Keras's `TextVectorization` layer.

    That layer, with `standardize="lower_and_strip_punctuation"` and `split="whitespace"`, consists of stock TensorFlow
    operations, so an exported model can cut strings in the same way. Like those operations, this function handles only
    ASCII: other letters keep their case, other punctuation stays, and a no-break space does not separate words.

    Args:
        text: Any text, possibly empty.

    Returns:
        The words in order; none if the text has only white space and punctuation.

    Example:
    >>> words("It's GOOD,<br />no: École!")
    ['its', 'goodbr', 'no', 'École']
    """
    # As bytes, whose `lower` and `split` handle only ASCII, while those of a str follow Unicode.
    return [word.decode() for word in text.encode().lower().translate(None, _PUNCTUATION).split()]


def characters(text: str) -> list[str]:
    """The characters (Unicode code points) of a text, as from `tf.strings.unicode_split`.

    Example:
    >>> characters("a b")
    ['a', ' ', 'b']
    """
    return list(text)


CUTS = {"words": words, "characters": characters}
