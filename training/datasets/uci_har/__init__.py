"""Human activity recognition: thirty people with a smartphone at the waist, in six activities."""

from pathlib import Path
from typing import Any

from training.datasets.base import Reference, Spec
from training.datasets.store import raw_files
from training.datasets.store.tfds import TfdsDataset


class UciHar(TfdsDataset):
    """The raw inertial signals of UCI data set 240, in its split by person, through the zoo's own TFDS builder."""

    spec = Spec(
        name="uci_har",
        summary="thirty people with a smartphone at the waist, in six activities",
        needs="a download of 58.18 MiB",
        features="body acceleration x, y, z and total acceleration x, y, z in g, angular velocity x, y, z in rad/s, in "
        "the order body_acc, body_gyro, total_acc; windows of 2.56 s at 50 Hz, each half of the one before",
        channels=9,
        classes=("walking", "walking_upstairs", "walking_downstairs", "sitting", "standing", "laying"),
        lengths=(128, 128),
        counts={"train": 7352, "test": 2947},
        licence="CC BY 4.0 (the README in the archive, of 2012, forbids commercial use)",
        citation="D. Anguita, A. Ghio, L. Oneto, X. Parra and J. L. Reyes-Ortiz (2013). A public domain dataset for "
        "human activity recognition using smartphones. ESANN 2013. doi:10.24432/C54S4K",
        homepage="https://archive.ics.uci.edu/dataset/240",
        split_rule="the dataset's own, by person: 21 people are train, 9 are test; the person is the group",
        references=(
            Reference(
                "test accuracy, two LSTM layers of 32 units, at the end of training",
                0.9165,
                "guillaume-chevalier/LSTM-Human-Activity-Recognition README.md",
            ),
        ),
    )
    version = "1.0.0"
    group = "subject"

    def _builder_class(self) -> Any:
        from training.datasets.uci_har.builder import UciHar as Builder

        return Builder

    def _manual_directory(self, builder_class: Any) -> Path | None:
        return raw_files.check_raw_files(builder_class)
