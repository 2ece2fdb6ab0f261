"""Texts with a label each, as sequences of words: the official TFDS builders of four well-known tasks."""

from typing import ClassVar

from training.datasets.base import Reference, Spec
from training.datasets.text import TextDataset


def _features(vocabulary_size: int) -> str:
    return (
        f"words in lower case without punctuation; the {vocabulary_size} most frequent of train have a token each, "
        "the others share one"
    )


class ImdbReviews(TextDataset):
    """Film reviews, whether their author liked the film; the reviews without a label are left out."""

    source, config = "imdb_reviews", "plain_text"
    vocabulary_size = 20000
    spec = Spec(
        name="imdb_reviews",
        summary="film reviews, by sentiment",
        needs="a download of 80.23 MiB",
        features=_features(vocabulary_size),
        channels=1,
        classes=("neg", "pos"),
        lengths=None,
        counts={"train": 25000, "test": 25000},
        licence="none stated",
        citation="A. L. Maas et al. (2011). Learning Word Vectors for Sentiment Analysis. ACL-HLT, pages 142-150",
        homepage="https://ai.stanford.edu/~amaas/data/sentiment/",
        split_rule="the archive's own: 25000 reviews with a label are train, 25000 are test; its 50000 "
        "reviews without a label are not used",
        references=(
            Reference(
                "accuracy on the test reviews, two bidirectional LSTMs of 64 units, 20000 words, 200 words of each "
                "review, after 10 epochs",
                0.8778,
                "model card keras-io/bidirectional-lstm-imdb on huggingface.co",
            ),
            Reference(
                "accuracy on the test reviews, bidirectional LSTM of 64 units, 20000 words, 100 words of each review, "
                "after 4 epochs",
                0.8146,
                "imdb_bidirectional_lstm.py in the examples of keras-team/keras",
            ),
        ),
        text=True,
    )


class AgNews(TextDataset):
    """Title and description of news articles, by topic."""

    source, fields = "ag_news_subset", ("title", "description")
    vocabulary_size = 20000
    spec = Spec(
        name="ag_news_subset",
        summary="news articles, by topic",
        needs="a download of 11.24 MiB (from Google Drive)",
        features=_features(vocabulary_size) + "; title and description, joined",
        channels=1,
        classes=("World", "Sports", "Business", "Sci/Tech"),
        lengths=None,
        counts={"train": 120000, "test": 7600},
        licence="for research and other non-commercial use",
        citation="X. Zhang, J. Zhao, Y. LeCun (2015). Character-level Convolutional Networks for Text Classification. "
        "NIPS. arXiv:1509.01626",
        homepage="https://arxiv.org/abs/1509.01626",
        split_rule="the archive's own: of every topic 30000 articles are train and 1900 are test",
        text=True,
    )


class GlueSst2(TextDataset):
    """Sentences and phrases from film reviews, by sentiment: SST-2 as the GLUE benchmark has it."""

    source, config, version = "glue", "sst2", "2.0.0"
    files = ("SST-2.zip",)
    parts: ClassVar[dict[str, str]] = {"train": "train", "test": "validation"}
    fields = ("sentence",)
    vocabulary_size = 10000
    spec = Spec(
        name="glue_sst2",
        summary="sentences from film reviews, by sentiment",
        needs="a download of 7.09 MiB",
        features=_features(vocabulary_size),
        channels=1,
        classes=("negative", "positive"),
        lengths=None,
        counts={"train": 67349, "test": 872},
        licence="none stated",
        citation="R. Socher et al. (2013). Recursive Deep Models for Semantic Compositionality Over a Sentiment "
        "Treebank. EMNLP, pages 1631-1642; A. Wang et al. (2019). GLUE. ICLR",
        homepage="https://nlp.stanford.edu/sentiment/index.html",
        split_rule="the 872 sentences of the official validation split are test, since the labels of the official test "
        "split are not published; validation examples are set aside from train",
        text=True,
    )


class Trec(TextDataset):
    """Questions, by what is asked for."""

    source, label = "trec", "label-coarse"
    vocabulary_size = 5000
    spec = Spec(
        name="trec",
        summary="questions, by what is asked for",
        needs="a download of 0.34 MiB",
        features=_features(vocabulary_size),
        channels=1,
        classes=("DESC", "ENTY", "ABBR", "HUM", "NUM", "LOC"),
        lengths=None,
        counts={"train": 5452, "test": 500},
        licence="none stated",
        citation="X. Li, D. Roth (2002). Learning Question Classifiers. COLING; E. Hovy et al. (2001). Toward "
        "Semantics-Based Answer Pinpointing. HLT",
        homepage="https://cogcomp.seas.upenn.edu/Data/QA/QC/",
        split_rule="the dataset's own files: train_5500.label is train, TREC_10.label, the questions of TREC 10, is "
        "test; of the two levels of labels the coarse one is used",
        text=True,
    )
