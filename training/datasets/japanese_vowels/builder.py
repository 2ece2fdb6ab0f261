"""The TFDS builder of `japanese_vowels`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from training.datasets.japanese_vowels import JapaneseVowels as Adapter
from training.datasets.japanese_vowels.archive import ARCHIVE, Series, read_archive


class JapaneseVowels(tfds.core.GeneratorBasedBuilder):
    """Prepares the vendored data file; needs no network.

    After `import training.datasets.japanese_vowels.builder`, `tfds.load("japanese_vowels")` knows the name.
    Examples keep the order of the source files.
    """

    VERSION = tfds.core.Version(Adapter.version)
    RELEASE_NOTES: dict[str, str] = {Adapter.version: "First version: the archive's 270 and 370 utterances."}  # noqa: RUF012

    archive: Path = ARCHIVE

    def _info(self) -> Any:
        spec = Adapter.spec
        series_documentation = tfds.features.Documentation(desc=spec.features, value_range="-1.86 to 2.21")
        return tfds.core.DatasetInfo(
            builder=self,
            description=f"{Adapter.__doc__} Split: {spec.split_rule}.",
            features=tfds.features.FeaturesDict(
                {
                    "series": tfds.features.Tensor(
                        shape=(None, spec.channels), dtype=np.float32, doc=series_documentation
                    ),
                    "label": tfds.features.ClassLabel(names=spec.classes, doc="Who speaks."),
                }
            ),
            supervised_keys=("series", "label"),
            homepage=spec.homepage,
            citation=spec.citation,
            license=spec.licence,
            # TFDS would write in hash order otherwise; the source order is what the tests can check.
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        del dl_manager
        return {split: self._generate_examples(series) for split, series in read_archive(self.archive).items()}

    def _generate_examples(self, series: Series) -> Iterator[tuple[int, dict[str, Any]]]:
        ends = np.cumsum(series.lengths)
        for index, values in enumerate(np.split(series.values, ends[:-1])):
            yield index, {"series": values, "label": int(series.labels[index])}
