"""The TFDS builder of `uea_ucr`: a configuration for every set of the archives."""

import contextlib
import functools
import os
from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import tensorflow_datasets as tfds

from training.datasets.ts_format import MalformedTs
from training.datasets.uea_ucr import CITATION, LICENCE, UeaUcr as Adapter, archive, homepage, names, split_rule


@functools.cache
def _config(name: str) -> Any:
    return tfds.core.BuilderConfig(name=names.checked(name), description=f"The set {name}.")


class UeaUcr(tfds.core.GeneratorBasedBuilder):
    """Prepares one set of the UEA and UCR archives of time series classification from its zip file.

    The configuration's name is the set's, also where it is not among `BUILDER_CONFIGS`. Missing values stay NaN, and
    examples keep the order of the files. `info.metadata` says which file the data came from:
    `{"url", "sha256", "sha256_was_known"}`, and how many values are "missing". The archives publish no checksums; one
    that is entered in `checksums.tsv`, keyed by address, is enforced.
    """

    VERSION = tfds.core.Version(Adapter.version)
    RELEASE_NOTES: dict[str, str] = {Adapter.version: "First version."}  # noqa: RUF012
    BUILDER_CONFIGS = [_config(name) for name in names.KNOWN]  # noqa: RUF012
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Only needed without a network: <name>.zip from https://timeseriesclassification.com/aeon-toolkit/<name>.zip"
    )

    @classmethod
    def get_builder_config(cls, name: str, version: Any = None) -> Any:
        """The configuration of that set, made where it is not among the known ones."""
        return super().get_builder_config(name, version) or _config(name)

    def _info(self) -> Any:
        name = self.builder_config.name
        return tfds.core.DatasetInfo(
            builder=self,
            description=f"{name} of the UEA and UCR archives of time series classification. Split: {split_rule(name)}.",
            features=tfds.features.FeaturesDict(
                {
                    # Two unknown dimensions: TFDS then wants the bytes, and keeps the shape beside them.
                    "series": tfds.features.Tensor(shape=(None, None), dtype=np.float32, encoding="zlib"),
                    "label": tfds.features.ClassLabel(),  # named when the file's header has been read
                }
            ),
            supervised_keys=("series", "label"),
            homepage=homepage(name),
            citation=CITATION,
            license=LICENCE,
            metadata=tfds.core.MetadataDict(),
            # TFDS would write in hash order otherwise; the source order is what the tests can check.
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        url = archive.url_of(self.builder_config.name)
        known = url in (self.url_infos or {})
        path = os.fspath(self._archive(dl_manager, url, known))
        self.info.metadata.update(url=url, sha256=archive.sha256_of(path), sha256_was_known=known, missing=0)
        classes = {split: self._classes(path, split) for split in ("train", "test")}
        if strange := [name for name in classes["test"] if name not in classes["train"]]:
            raise MalformedTs(
                f"{path}: received class {strange[0]!r} in the test file's header, expected those of the train file's: "
                f"{', '.join(classes['train'])}"
            )
        self.info.features["label"].names = list(classes["train"])
        return {split: self._generate_examples(path, split) for split in classes}

    def _archive(self, dl_manager: Any, url: str, known: bool) -> Any:
        # TFDS itself looks for files placed by hand, but only for those whose checksum it knows.
        with contextlib.suppress(AssertionError):  # there is no such folder, or it is empty
            placed = dl_manager.manual_dir / url.rpartition("/")[2]
            if not known and placed.is_file():
                return placed
        return dl_manager.download(url)

    def _classes(self, path: str, split: str) -> tuple[str, ...]:
        with archive.opened(path, self.builder_config.name, split) as (header, _):
            if header.kind != "class":
                raise MalformedTs(
                    f"{path}: received a {split} file with {header.kind or 'no'} labels, expected @classLabel true: "
                    "these are archives of classification"
                )
            return header.classes

    def _generate_examples(self, path: str, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
        with archive.opened(path, self.builder_config.name, split) as (header, cases):
            for index, case in enumerate(cases):
                self.info.metadata["missing"] += int(np.isnan(case.sequence).sum())
                # By name: the two headers may list the classes in different orders.
                yield index, {"series": case.sequence, "label": header.classes[cast(int, case.label)]}
