"""The UEA and UCR archives of time series classification: a dataset `uea_ucr/<Name>` for every set in them."""

import functools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.datasets.base import Examples, Spec, Split
from training.datasets.store import raw_files, rows as row_store, tfds as tfds_store
from training.datasets.ts_format import channel_means, fill_missing
from training.datasets.uea_ucr import archive, names
from training.files import write_safely

CITATION = (
    "A. Bagnall, H. A. Dau, J. Lines, M. Flynn, J. Large, A. Bostrom, P. Southam and E. Keogh (2018). The UEA "
    "multivariate time series classification archive, 2018. arXiv:1811.00075. H. A. Dau, A. Bagnall, K. Kamgar, "
    "C.-C. M. Yeh, Y. Zhu, S. Gharghabi, C. A. Ratanamahatana and E. Keogh (2019). The UCR time series archive. "
    "IEEE/CAA Journal of Automatica Sinica 6(6), 1293-1305. And the donors named on the set's page"
)
LICENCE = "none stated by the archives for many of their sets: see the set's page and its donors"

_FAMILY = "uea_ucr"
# Part of the folder's name: another way of filling is another folder.
_FILLING = "filled-1"


def homepage(name: str) -> str:
    """The archives' page about that set."""
    return f"https://timeseriesclassification.com/description.php?Dataset={name}"


def split_rule(name: str) -> str:
    """How an example of that set got into its split."""
    return f"the archive's own: {name}_TRAIN.ts and {name}_TEST.ts"


class UeaUcr(row_store.RowsDataset):
    """One set of the archives, with its official split; missing values are filled.

    What can be said about a set is in its files only. So the first look at `spec` prepares the data, and downloads it
    where it has not been placed by hand.

    Args:
        name: The set's name as the archives write it, such as "ECG5000".

    Raises:
        UnknownSet: No set can be called so.
    """

    version = "1.0.0"

    def __init__(self, name: str) -> None:
        self.name = names.checked(name)

    @property
    def spec(self) -> Spec:  # type: ignore[override] # read, not written
        """Read from the prepared data, which is prepared first where that has not been done.

        Raises:
            PreparationFailed: As `prepare`.
        """
        self.prepare()
        facts = self._facts()
        channels, missing = facts["channels"], facts["missing"]
        features = f"{channels} channel{'s' if channels > 1 else ''} as the archive has them, units not stated"
        if missing:
            features += f"; {missing} missing values filled: linearly in time, at the ends by the nearest"
        return Spec(
            name=self._full_name,
            features=features,
            channels=channels,
            classes=tuple(facts["classes"]),
            lengths=(facts["lengths"][0], facts["lengths"][1]),
            counts=facts["counts"],
            licence=LICENCE,
            citation=CITATION,
            homepage=homepage(self.name),
            split_rule=split_rule(self.name),
            references=names.references(self.name),
        )

    def marks(self) -> Sequence[Path]:
        return [*super().marks(), self._facts_file()]

    def folders(self) -> Sequence[Path]:
        root = tfds_store.data_directory()
        return [root / self._full_name, *(root / "packed" / _FAMILY).glob(f"{self.name}-*")]

    def prepare(self) -> None:
        """Prepare the TFDS data, fill missing values, and keep both splits and what is known about them.

        Raises:
            RawFileMissing: The set's file is not on this machine and cannot be downloaded.
            PreparationFailed: It is damaged, or the disk.
            MalformedTs: It holds something else than its header says.
        """
        if self.is_prepared():
            return
        # Before the import, which alone takes a second.
        manual_dir = None if tfds_store.is_prepared(self._full_name, self.version) else self._manual_directory()
        from training.datasets.uea_ucr.builder import UeaUcr as Builder

        info = tfds_store.prepare(Builder, manual_dir, self.name).info
        parts = {
            split: row_store.read_or_make(
                self._folder(split), functools.partial(self._filled, Builder, split, info.splits[split].num_examples)
            )
            for split in self.parts
        }
        lengths = np.concatenate([part.lengths for part in parts.values()])
        self._keep_facts(
            {
                "classes": info.features["label"].names,
                "channels": parts["train"].channels,
                "lengths": [int(lengths.min()), int(lengths.max())],
                "counts": {split: len(part) for split, part in parts.items()},
                "missing": info.metadata["missing"],
            }
        )

    def _read(self, split: Split) -> Examples:
        return row_store.read(self._folder(split))

    @property
    def _full_name(self) -> str:
        return f"{_FAMILY}/{self.name}"

    def _root(self) -> Path:
        return tfds_store.data_directory() / "packed" / _FAMILY

    def _made_of(self) -> str:
        return f"{self.name}-{self.version}-{_FILLING}"

    def _facts_file(self) -> Path:
        """Written last."""
        return self._root() / self._made_of() / "facts.json"

    def _manual_directory(self) -> Path:
        """Where TFDS shall look; the error that it would give after minutes comes at once."""
        directory, url = raw_files.manual_directory(_FAMILY), archive.url_of(self.name)
        if not (directory / f"{self.name}.zip").is_file():
            raw_files.check_reachable(
                url,
                f"{self._full_name} needs {self.name}.zip, which is not in {directory}",
                f"put the file there, or try again online{names.hint(self.name)}",
            )
        return directory

    def _filled(self, builder_class: Any, split: str, total: int) -> Iterator[row_store.Row]:
        @functools.cache
        def means() -> NDArray[np.float64]:
            """The mean of each channel over the training sequences, read again only where a value is missing."""
            return channel_means(row["series"] for row in tfds_store.read(builder_class, "train", config=self.name))

        def filled() -> Iterator[row_store.Row]:
            for row in tfds_store.read(builder_class, split, config=self.name):
                series = row["series"]
                yield row_store.Row(
                    fill_missing(series, means()) if np.isnan(series).any() else series, int(row["label"])
                )

        return row_store.tracked(filled(), total, f"{self._full_name} {split}")

    def _keep_facts(self, facts: dict[str, Any]) -> None:
        kept = self._facts_file()
        try:
            write_safely(kept, f"{json.dumps(facts, indent=2)}\n".encode())
        except OSError as error:
            raise tfds_store.PreparationFailed(
                f"cannot write {kept} ({type(error).__name__}: {error}): see that its folder can be written and has "
                "space (TFDS_DATA_DIR names another)"
            ) from error

    def _facts(self) -> dict[str, Any]:
        try:
            facts: dict[str, Any] = json.loads(self._facts_file().read_text())
        except (OSError, ValueError) as error:
            raise tfds_store.PreparationFailed(
                f"{self._facts_file()} is damaged ({error}): delete {self._root() / self._made_of()} and run again"
            ) from error
        return facts
