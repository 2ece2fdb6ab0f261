"""Data prepared by TensorFlow Datasets: where it lies, making it once, reading it back.

TFDS prepares into a folder of its own name and renames it when complete, so a half-prepared dataset is never
seen. Of two processes that prepare at once, each works in its own folder; the first rename wins, and the other
process reads the winner's data.
"""

import contextlib
import io
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from training.datasets.base import Dataset, Examples, Split
from zoo.quiet import import_tensorflow

# TFDS writes it last, and the folder gets its name when it is complete.
_DESCRIPTION = "dataset_info.json"


class PreparationFailed(RuntimeError):
    """The data could not be brought into the form that is read."""

    exit_code = 1


def data_directory() -> Path:
    """TFDS's data directory: the environment's `TFDS_DATA_DIR`, else `~/tensorflow_datasets`.

    Raises:
        PreparationFailed: `TFDS_DATA_DIR` is an address such as `gs://`.
    """
    configured = os.environ.get("TFDS_DATA_DIR")
    if configured and "://" in configured:
        raise PreparationFailed(
            f"TFDS_DATA_DIR is {configured!r}, expected a folder of this machine: mount or copy the data first"
        )
    return Path(configured or "~/tensorflow_datasets").expanduser()


def directory_of(name: str, version: str) -> Path:
    """Where that dataset is, or would be, prepared."""
    return data_directory() / name / version


def is_prepared(name: str, version: str) -> bool:
    """Whether the dataset is there, completely; imports nothing and reads nothing."""
    return (directory_of(name, version) / _DESCRIPTION).is_file()


def prepare(builder_class: Any, manual_dir: Path | None = None, config: str | None = None) -> Any:
    """Prepare the dataset where that has not been done, and give its builder.

    Args:
        builder_class: A `tfds.core.DatasetBuilder` class.
        manual_dir: Folder in which raw files may lie that TFDS would download otherwise.
        config: The name of one of the builder's configurations, of those that have some.

    Returns:
        A builder that reads the prepared data.

    Raises:
        PreparationFailed: Disk, download, checksum or the raw data; the message says which, and what to do.
    """
    name, version = full_name(builder_class, config), full_version(builder_class, config)
    directory = directory_of(name, version)
    if not is_prepared(name, version):
        if directory.exists():
            raise PreparationFailed(
                f"{directory} exists without dataset_info.json, so it is not a prepared dataset: "
                "move it away and run again"
            )
        _prepare_now(builder_class, directory, manual_dir, config)
    try:
        return _builder(builder_class, config)
    except Exception as error:  # of many kinds, as TFDS reads several formats of several ages
        broken = [str(path) for path in sorted(directory.glob("*.json")) if not _is_json(path)]
        if not broken:
            raise
        raise PreparationFailed(
            f"{', '.join(broken)} is damaged ({type(error).__name__}: {str(error).strip().partition(chr(10))[0]}): "
            f"delete {directory} and run again, which prepares the data anew"
        ) from error


class TfdsDataset(Dataset):
    """A dataset that is read as TensorFlow Datasets has prepared it.

    A subclass sets `spec`, `version` and `group`, and implements `_builder_class`.

    Attributes:
        version: The version of the builder.
        group: The feature that says which examples belong together, or `None`.
    """

    version: str
    group: str | None = None

    def marks(self) -> Sequence[Path]:
        return [directory_of(self.spec.name, self.version) / _DESCRIPTION]

    def folders(self) -> Sequence[Path]:
        return [data_directory() / self.spec.name]

    def prepare(self) -> None:
        if not self.is_prepared():
            builder = self._builder_class()
            prepare(builder, self._manual_directory(builder))

    def _read(self, split: Split) -> Examples:
        self.prepare()
        rows = list(read(self._builder_class(), split))
        groups = None if self.group is None else np.array([row[self.group] for row in rows], np.int64)
        labels = np.array([row["label"] for row in rows], np.int64)
        return Examples([row["series"] for row in rows], labels, groups)

    def _builder_class(self) -> Any:
        """The builder; imported here, since that imports TFDS."""
        raise NotImplementedError

    def _manual_directory(self, builder_class: Any) -> Path | None:
        """Where raw files may lie that TFDS would download otherwise."""
        return None


def _is_json(path: Path) -> bool:
    try:
        json.loads(path.read_bytes())
    except ValueError:
        return False
    return True


def full_name(builder_class: Any, config: str | None) -> str:
    """The builder's name, and its configuration's after a slash."""
    return builder_class.name if config is None else f"{builder_class.name}/{config}"


def full_version(builder_class: Any, config: str | None) -> str:
    """The version that TFDS prepares; some builders give each configuration one of its own."""
    return str((config is not None and builder_class.get_builder_config(config).version) or builder_class.VERSION)


def _builder(builder_class: Any, config: str | None) -> Any:
    return builder_class(data_dir=data_directory(), **({} if config is None else {"config": config}))


def read(
    builder_class: Any, split: str, manual_dir: Path | None = None, config: str | None = None
) -> Iterator[dict[str, Any]]:
    """Examples of one split as NumPy values, one by one, in the order in which they were written.

    Args:
        builder_class: A `tfds.core.DatasetBuilder` class; prepared first where that has not been done.
        split: A split of the builder.
        manual_dir: As for `prepare`.
        config: As for `prepare`.

    Raises:
        PreparationFailed: Preparing failed, or the prepared files are damaged.
    """
    import_tensorflow()
    import tensorflow as tf
    import tensorflow_datasets as tfds

    builder = prepare(builder_class, manual_dir, config)
    in_order = tfds.ReadConfig(interleave_cycle_length=1, add_tfds_id=False)
    try:
        dataset = builder.as_dataset(split=split, shuffle_files=False, read_config=in_order)
        yield from tfds.as_numpy(dataset)
    except (tf.errors.DataLossError, tf.errors.NotFoundError) as error:
        raise PreparationFailed(
            f"the prepared data in {builder.data_dir} cannot be read ({type(error).__name__}: {error.message}): "
            "delete that folder and run again"
        ) from error


def _prepare_now(builder_class: Any, directory: Path, manual_dir: Path | None, config: str | None) -> None:
    import tensorflow_datasets as tfds

    name = full_name(builder_class, config)
    print(f"preparing {name} in {directory}", file=sys.stderr)
    if not sys.stderr.isatty():  # in a log file, bars are noise
        tfds.disable_progress_bar()
    said = io.StringIO()  # what TFDS prints of every dataset, which tells nothing new where all goes well
    failures = (OSError, tfds.download.DownloadError, tfds.download.download_manager.NonMatchingChecksumError)
    try:
        data_directory().mkdir(parents=True, exist_ok=True)
        # An extraction folder of this process's own: TFDS's shared one is deleted and made again by every
        # process that extracts, under the hands of those that read it.
        with (
            tempfile.TemporaryDirectory(prefix="extracted-", dir=data_directory()) as extracted,
            contextlib.redirect_stdout(said),
        ):
            download = tfds.download.DownloadConfig(extract_dir=extracted, manual_dir=manual_dir)
            _builder(builder_class, config).download_and_prepare(download_config=download)
    except failures as error:
        # Where another process finished first, its folder stands where ours was to go, and all is well.
        if not is_prepared(name, full_version(builder_class, config)):
            print(said.getvalue(), end="", file=sys.stderr)
            raise PreparationFailed(
                f"cannot prepare {builder_class.name} in {directory} ({type(error).__name__}: {error}): "
                "see that the folder can be written and has space (TFDS_DATA_DIR names another), "
                "and that the network is there where raw data is downloaded"
            ) from error
