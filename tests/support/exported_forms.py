"""A model of each kind, with each task, and what is exported of it."""

import functools
from types import SimpleNamespace

import keras
import numpy as np
import tensorflow as tf

from training.datasets import text as training_text
from zoo.export import export
from zoo.models import MODELS, SequenceTask, build
from zoo.text import CUTS

NUMBERS = {"channels": 3, "mean": (1.0, 2.0, 3.0), "variance": (1.0, 4.0, 0.5)}
CLASSES = ["a", "b", "c", "é"]
CHARACTERS = ["", "[UNK]", *"eab \né☃"]
WORDS = ["", "[UNK]", "good", "film", "its", "École", "2"]
OF_NUMBERS = {"output_mean": (5.0, -1.0), "output_variance": (4.0, 0.25)}
KINDS = {
    "classification": ({**NUMBERS, "classes": 4}, {"classes": CLASSES}),
    "labelling": ({**NUMBERS, "classes": 4, "kind": "labelling"}, {"kind": "labelling", "classes": CLASSES}),
    "regression": ({**NUMBERS, "outputs": 1, "kind": "regression"}, {"kind": "regression", "outputs": ["x in m"]}),
    "forecasting": (
        {**NUMBERS, "outputs": 2, "horizon": 3, "kind": "forecasting", **OF_NUMBERS},
        {"kind": "forecasting", "outputs": ["x", "y"], "horizon": 3},
    ),
    "words": (
        {"channels": 1, "classes": 4, "vocabulary": len(WORDS), "embedding": 4},
        {"classes": CLASSES, "vocabulary": WORDS, "tokens": "words"},
    ),
    "characters": (
        {"channels": 1, "kind": "language_model", "vocabulary": len(CHARACTERS), "embedding": 4},
        {"kind": "language_model", "vocabulary": CHARACTERS},
    ),
}
FORMS = {
    **{name: ("classification", {}) for name in MODELS},
    "cnn_lstm": ("forecasting", {"causal": True}),
    "conv_lstm": ("regression", {"filters": 3}),
    "irnn": ("regression", {}),
    "gru": ("labelling", {}),
    "fcn": ("classification", {"filters": 4}),
    "tcn": ("labelling", {"filters": 4, "levels": 2}),
    "gru of words": ("words", {}),
    "lstm of characters": ("characters", {}),
}
# One of each kind of task: these make test.
OF_EACH_KIND = ["lstm", "cnn_lstm", "conv_lstm", "gru", "gru of words", "lstm of characters"]
CAUSAL = ["lstm", "cnn_lstm", "conv_lstm", "irnn", "gru", "tcn", "gru of words", "lstm of characters"]
LENGTHS = np.array([50, 3, 1, 20], "int32")
TEXTS = ["it's a GOOD film, École", "good", "unheard of\n\tgood", "ab\x00 é☃ 2"]

load = functools.cache(tf.saved_model.load)


def features():
    return np.random.default_rng(0).normal(2, 2, size=(4, 50, 3)).astype("float32")


class Exported(dict):
    """One export of each form, made when it is first asked for: its kind, Keras model, task, and what `export` gave."""

    def __init__(self, folder):
        super().__init__()
        self._folder = folder

    def __missing__(self, form):
        kind, arguments = FORMS[form]
        task, kept = KINDS[kind]
        sizes = {} if "filters" in arguments else {"units": 5}
        keras.utils.set_random_seed(1)
        model = build(form.split(" of ")[0], SequenceTask(**task), **sizes, **arguments)
        result = export(model, kept, self._folder / form.replace(" ", "_"), xla=form in ("lstm", "gru of words"))
        self[form] = SimpleNamespace(kind=kept.get("kind", "classification"), model=model, task=kept, result=result)
        return self[form]


def signature(path, name="serving_default"):
    function = load(str(path)).signatures[name]
    return lambda **feeds: {k: v.numpy() for k, v in function(**{k: tf.constant(v) for k, v in feeds.items()}).items()}


def tokens(form, texts):
    """By the code of training."""
    cut = CUTS["characters" if form.kind == "language_model" else "words"]
    index = training_text.Indexer(tuple(form.task["vocabulary"]))
    return [index(cut(text)) for text in texts]
