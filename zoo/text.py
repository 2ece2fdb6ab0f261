"""What a text is cut into: the tokens of training, and of the graph that `zoo.export` makes."""

import string

_PUNCTUATION = string.punctuation.encode()


def words(text: str) -> list[str]:
    """The words of a text, the same as those of Keras's `TextVectorization` layer.

    That layer, with `standardize="lower_and_strip_punctuation"` and `split="whitespace"`, is made of stock TensorFlow
    operations, so an exported model can do the same with the strings that it is asked about. Like those operations,
    this one knows ASCII only: other letters keep their case, other punctuation stays, a no-break space parts no words.

    Args:
        text: Any text, also an empty one.

    Returns:
        The words in order; none where the text holds only white space and punctuation.

    Example:
    >>> words("It's GOOD,<br />no: École!")
    ['its', 'goodbr', 'no', 'École']
    """
    # As bytes: there `lower` and `split` know ASCII only, while those of a str follow Unicode.
    return [word.decode() for word in text.encode().lower().translate(None, _PUNCTUATION).split()]


def characters(text: str) -> list[str]:
    """The characters (Unicode code points) of a text, as `tf.strings.unicode_split` gives them.

    Example:
    >>> characters("a b")
    ['a', ' ', 'b']
    """
    return list(text)


CUTS = {"words": words, "characters": characters}
