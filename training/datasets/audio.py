"""Datasets of recordings: official TFDS builders of audio, heard as log-mel features."""

import importlib
import itertools
import logging
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from training.datasets.log_mel import GROUP, LogMel
from training.datasets.store import raw_files, rows as row_store, tfds as tfds_store

logger = logging.getLogger(__name__)


class MissingAudioExtra(ImportError):
    """TFDS cannot decode WAV files here."""

    exit_code = 1


class Recordings(row_store.RowsDataset):
    """Recordings of a TFDS builder with a label each, as log-mel features that are computed once and kept packed.

    At no time are more than `GROUP` waveforms in memory. A subclass sets `spec`, whose name is the builder's too, and:

    Attributes:
        version: The builder's version.
        log_mel: The features.
        parts: How many recordings each split of the builder holds. "train" and "test" are ours too; where there is
            "validation", it is used as such.
    """

    version: str
    log_mel: LogMel
    parts: ClassVar[dict[str, int]]

    def _made_of(self) -> str:
        return f"{self.version}-{self.log_mel.key()}"

    def _rows(self, part: str) -> Iterable[row_store.Row]:
        return row_store.tracked(self._heard(self._examples(part)), self.parts[part], f"{self.spec.name}, {part}")

    def _examples(self, part: str) -> Iterator[dict[str, Any]]:
        import tensorflow_datasets as tfds

        builder_class = tfds.builder_cls(self.spec.name)
        manual_dir = None
        if not tfds_store.is_prepared(self.spec.name, self.version):
            self._check_audio_extra()
            manual_dir = self._check_raw_files(builder_class)
        return tfds_store.read(builder_class, part, manual_dir)

    def _check_raw_files(self, builder_class: Any) -> Path | None:
        return raw_files.check_raw_files(builder_class)

    def _check_audio_extra(self) -> None:
        try:
            with warnings.catch_warnings():
                # pydub warns that ffmpeg is not installed; WAV needs none.
                warnings.simplefilter("ignore")
                importlib.import_module("pydub")
        except ImportError as error:
            raise MissingAudioExtra(
                f"{self.spec.name} is prepared with pydub, which cannot be imported here ({error}): "
                "pip install 'sequence-zoo[audio]'"
            ) from error

    def _heard(self, examples: Iterable[dict[str, Any]]) -> Iterator[row_store.Row]:
        """The features of what the builder yields, in the same order."""
        remaining, cut = iter(examples), 0
        while group := list(itertools.islice(remaining, GROUP)):
            waveforms = [_waveform(example["audio"]) for example in group]
            cut += sum(self.log_mel.cuts(len(waveform)) for waveform in waveforms)
            for example, features in zip(group, self.log_mel.transform(waveforms), strict=True):
                yield row_store.Row(features, int(example["label"]), self._speaker(example))
        if cut:
            logger.warning("%s: %d recordings were too long and cut: %s", self.spec.name, cut, self.spec.features)

    def _speaker(self, example: dict[str, Any]) -> int | None:
        """A number for the speaker, of a builder that names the speakers."""
        return None


def _waveform(samples: NDArray[Any]) -> NDArray[np.float32]:
    return samples.astype(np.float32) / np.float32(32768)
