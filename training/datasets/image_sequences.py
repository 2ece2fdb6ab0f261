"""Images read as sequences: the official TFDS builders `mnist`, `fashion_mnist` and `kmnist`, each in three ways."""

import dataclasses
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from training.datasets.base import Examples, Reference, Slices, Spec, Split
from training.datasets.store import raw_files, rows as row_store

Way = Literal["rows", "pixels", "permuted"]

WAYS: tuple[Way, ...] = get_args(Way)

# Part of the specs: another seed would be another dataset. It is the seed of published code for permuted MNIST, such
# as that of unitary and orthogonal recurrent networks.
PERMUTATION_SEED = 92916

_VERSION = "3.0.1"
_SIDE = 28
_PIXELS = _SIDE * _SIDE
_STEPS = {"rows": "an image row", "pixels": "a pixel", "permuted": "a pixel"}
_VALUES = "grey level, whole numbers 0 (background) to 255"


@dataclasses.dataclass(frozen=True)
class _Source:
    what: str
    megabytes: float
    classes: tuple[str, ...]
    licence: str
    citation: str
    homepage: str
    row_references: tuple[Reference, ...] = ()


def _gru_svm(plain: float, with_dropout: float) -> tuple[Reference, ...]:
    where = "README of github.com/zalandoresearch/fashion-mnist, submitted by A. F. Agarap"
    return (
        Reference("accuracy of GRU+SVM with dropout, test split", with_dropout, where),
        Reference("accuracy of GRU+SVM, test split", plain, where),
    )


_SOURCES = {
    "mnist": _Source(
        what="handwritten digits",
        megabytes=11.06,
        classes=tuple("0123456789"),
        licence="CC BY-SA 3.0",
        citation="Y. LeCun, C. Cortes and C. J. C. Burges (2010). MNIST handwritten digit database. "
        "ATT Labs, http://yann.lecun.com/exdb/mnist",
        homepage="https://yann.lecun.com/exdb/mnist/",
        row_references=_gru_svm(0.965, 0.988),
    ),
    "fashion_mnist": _Source(
        what="pictures of clothes",
        megabytes=29.45,
        classes=(
            "T-shirt/top",
            "Trouser",
            "Pullover",
            "Dress",
            "Coat",
            "Sandal",
            "Shirt",
            "Sneaker",
            "Bag",
            "Ankle boot",
        ),
        licence="MIT",
        citation="H. Xiao, K. Rasul and R. Vollgraf (2017). Fashion-MNIST: a Novel Image Dataset for Benchmarking "
        "Machine Learning Algorithms. arXiv:1708.07747",
        homepage="https://github.com/zalandoresearch/fashion-mnist",
        row_references=_gru_svm(0.888, 0.897),
    ),
    "kmnist": _Source(
        what="cursive Japanese characters",
        megabytes=20.26,
        classes=("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
        licence="CC BY-SA 4.0",
        citation="T. Clanuwat, M. Bober-Irizar, A. Kitamoto, A. Lamb, K. Yamamoto and D. Ha (2018). Deep Learning for "
        "Classical Japanese Literature. arXiv:1812.01718",
        homepage="https://github.com/rois-codh/kmnist",
    ),
}

SOURCES = tuple(_SOURCES)


class ImageSequences(row_store.RowsDataset):
    """28x28 grey images of 10 classes, as sequences.

    The images are kept packed once for all three ways. Rows and pixels can stay in that file; permuted pixels are put
    in their order in memory (188 MB for the training images).

    Args:
        source: A TFDS builder, one of `SOURCES`.
        way: What a step is. "rows": an image row, top to bottom, 28 steps of 28 pixels. "pixels": a pixel, row by
            row from the top left, 784 steps of 1. "permuted": the same pixels in another order, the same for all
            images: step `t` is pixel `permutation[t]` of `numpy.random.RandomState(92916).permutation(784)`.

    Example:
    >>> spec = ImageSequences("kmnist", "pixels").spec
    >>> spec.name, spec.lengths, spec.channels
    ('kmnist_pixels', (784, 784), 1)
    """

    def __init__(self, source: str, way: Way) -> None:
        about = _SOURCES[source]
        self.source = self.kept_as = source  # kept once for all three ways
        self.way = way
        steps = _SIDE if way == "rows" else _PIXELS
        self.spec = Spec(
            name=f"{source}_{way}",
            summary=f"{about.what}, {_STEPS[way]} a step{', permuted' if way == 'permuted' else ''}",
            needs=f"a download of {about.megabytes} MiB",
            features={
                "rows": f"one image row of {_SIDE} pixels a step, top to bottom; {_VALUES}",
                "pixels": f"one pixel a step, row by row from the top left; {_VALUES}",
                "permuted": "one pixel a step, of the image read row by row pixel p[t] at step t, where p is "
                f"numpy.random.RandomState({PERMUTATION_SEED}).permutation({_PIXELS}); {_VALUES}",
            }[way],
            channels=_PIXELS // steps,
            classes=about.classes,
            lengths=(steps, steps),
            counts={"train": 60000, "test": 10000},
            licence=about.licence,
            citation=about.citation,
            homepage=about.homepage,
            split_rule="the official one: 60000 images are train, 10000 are test",
            references=about.row_references if way == "rows" else (),
        )

    def stored_rows(self, part: str) -> Path | None:
        return super().stored_rows(part) if self.way == "rows" else None

    def _made_of(self) -> str:
        return f"rows-{_VERSION}"

    def _rows(self, part: str) -> Iterator[row_store.Row]:
        rows = _rows(raw_files.read_official(self.source, part))
        return row_store.tracked(rows, self.spec.counts[part], f"{self.source}, {part} images")

    def _read(self, split: Split) -> Examples:
        images = self._part(split)
        if self.way == "rows":
            return images
        rows = Slices.of(images.sequences)
        pixels = rows.values.reshape(-1, _PIXELS)
        if self.way == "permuted":
            # RandomState's stream is frozen by NumPy's policy; default_rng's may change between releases.
            pixels = pixels[:, np.random.RandomState(PERMUTATION_SEED).permutation(_PIXELS)]
        sequences = Slices(pixels.reshape(-1, 1), rows.starts * _SIDE, rows.lengths * _SIDE)
        return Examples.trusted(sequences, images.targets)  # the same values, which were checked as rows


def _rows(examples: Iterable[dict[str, Any]]) -> Iterator[row_store.Row]:
    for example in examples:
        yield row_store.Row(example["image"][:, :, 0].astype(np.float32), int(example["label"]))
