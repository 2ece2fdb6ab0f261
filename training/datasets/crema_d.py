"""Emotions in speech: the official TFDS builder `crema_d`, heard as log-mel features."""

import zlib
from pathlib import Path
from typing import Any, ClassVar

from training.datasets.audio import Recordings
from training.datasets.base import Reference, Spec
from training.datasets.log_mel import LogMel
from training.datasets.store import raw_files, tfds as tfds_store


class CremaD(Recordings):
    """CREMA-D: 91 actors say 12 sentences in six emotions, 16 kHz, each recording as 40 steps of 80 values.

    The recordings have 1.3 to 5 s, 2.5 s in the mean; about one in a hundred is longer than the 4 s that are heard.
    How many were cut is logged when the data is prepared. A step of 100 ms is the mean energy of ten windows of
    25 ms, so nothing in between is missed.
    """

    log_mel = LogMel(
        sample_rate=16000, step=1600, windows=10, window=400, fft_length=1024, mels=80, highest=8000.0, samples=64000
    )
    version = "1.0.0"
    parts: ClassVar[dict[str, int]] = {"train": 5144, "validation": 738, "test": 1556}
    spec = Spec(
        name="crema_d",
        summary="actors speak in six emotions, as log-mel features",
        needs="extra `audio`, a download of 579 MiB in 7438 files",
        features=log_mel.describe(),
        channels=log_mel.mels,
        classes=("neutral", "happy", "sad", "anger", "fear", "disgust"),
        lengths=(40, 40),
        counts={"train": parts["train"], "test": parts["test"]},
        licence="ODbL 1.0",
        citation="H. Cao et al. CREMA-D: Crowd-sourced emotional multimodal actors dataset. "
        "IEEE Transactions on Affective Computing 5(4), 2014",
        homepage="https://github.com/CheyneyComputerScience/CREMA-D",
        split_rule="the official builder's, by actor: of 91 actors 63 are train, 9 validation (738 recordings, used as "
        "such) and 19 test",
        references=(
            Reference(
                "share of all recordings whose intended emotion people recognised by hearing",
                0.409,
                "Cao et al. 2014, abstract",
            ),
        ),
    )

    def _check_raw_files(self, builder_class: Any) -> Path | None:
        # TFDS downloads recording by recording, and takes none of them from a folder: its list of them holds no names.
        # Of the list, the one file that it knows of beforehand, is asked whether the network is there.
        (url,) = builder_class.url_infos
        raw_files.check_reachable(
            url,
            "crema_d is downloaded in 7438 single recordings (579 MiB in all)",
            "try again online, or run `zoo datasets prepare crema_d` on another machine and copy "
            f"{tfds_store.data_directory() / 'packed' / 'crema_d'} from there",
        )
        return None

    def _speaker(self, example: dict[str, Any]) -> int:
        # Actors are named by four digits. No two strings of four bytes have the same CRC.
        return zlib.crc32(example["speaker_id"])
