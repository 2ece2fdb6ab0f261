"""The TFDS builder of `uci_har`."""

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from training.datasets.uci_har import UciHar as Adapter, archive


class UciHar(tfds.core.GeneratorBasedBuilder):
    """Prepares the archive of UCI data set 240, a zip file in a zip file, without extracting it.

    Examples keep the order of the source files.
    """

    VERSION = tfds.core.Version(Adapter.version)
    RELEASE_NOTES: dict[str, str] = {Adapter.version: "First version: 7352 and 2947 windows."}  # noqa: RUF012

    def _info(self) -> Any:
        spec = Adapter.spec
        return tfds.core.DatasetInfo(
            builder=self,
            description=f"{Adapter.__doc__} Split: {spec.split_rule}.",
            features=tfds.features.FeaturesDict(
                {
                    "series": tfds.features.Tensor(
                        shape=(archive.STEPS, spec.channels),
                        dtype=np.float32,
                        encoding="bytes",  # prepared in half the time
                        doc=tfds.features.Documentation(desc=spec.features),
                    ),
                    "label": tfds.features.ClassLabel(names=spec.classes, doc="The activity."),
                    "subject": tfds.features.Scalar(
                        np.int64, doc=tfds.features.Documentation(desc="Who wore the phone.", value_range="1 to 30")
                    ),
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
        content = archive.read_inner(os.fspath(dl_manager.download(archive.URL)))
        return {split: self._generate_examples(content, split) for split in ("train", "test")}

    def _generate_examples(self, content: bytes, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
        for index, window in enumerate(archive.read_split(content, split)):
            yield index, window._asdict()
