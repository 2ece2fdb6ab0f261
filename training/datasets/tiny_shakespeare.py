"""Tiny Shakespeare: the official TFDS builder `tiny_shakespeare`, character by character."""

from typing import ClassVar

from training.datasets.base import Spec
from training.datasets.text import TextDataset


class TinyShakespeare(TextDataset):
    """40000 lines from Shakespeare's plays in one file, cut into three documents; each is one sequence."""

    source, label = "tiny_shakespeare", None
    parts: ClassVar[dict[str, str]] = {"train": "train", "validation": "validation", "test": "test"}
    tokens = "characters"
    spec = Spec(
        name="tiny_shakespeare",
        summary="plays, character by character, for language models",
        needs="a download of 1.06 MiB",
        features="characters; the 65 that occur in train have a token each",
        channels=1,
        classes=(),
        lengths=(55770, 1003854),
        counts={"train": 1, "test": 1},
        licence="none stated; the plays themselves are in the public domain",
        citation="A. Karpathy (2015). The Unreasonable Effectiveness of Recurrent Neural Networks. "
        "https://github.com/karpathy/char-rnn",
        homepage="https://karpathy.github.io/2015/05/21/rnn-effectiveness/",
        split_rule="the official builder's: of the file's characters the first 90 % (1003854) are train, the next 5 % "
        "(55770) are validation, used as such, and the last 5 % (55770) are test",
        task="language_model",
        text=True,
    )
