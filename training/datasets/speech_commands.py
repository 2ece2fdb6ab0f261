"""Spoken commands: the official TFDS builder `speech_commands`, heard as log-mel features."""

from typing import ClassVar

from training.datasets.audio import Recordings
from training.datasets.base import Reference, Spec
from training.datasets.log_mel import LogMel


class SpeechCommands(Recordings):
    """Speech Commands, version 2: thousands of people say a word each in one second, 16 kHz; ten words are told apart.

    Silence is cut from recordings of noise, in train and validation into seconds that overlap by half.
    """

    # The widely used 25 ms every 10 ms; 40 mels up to 7600 Hz as in github.com/google-research/google-research,
    # kws_streaming.
    log_mel = LogMel(sample_rate=16000, step=160, window=400, mels=40, highest=7600.0, samples=16000)
    version = "0.0.3"
    parts: ClassVar[dict[str, int]] = {"train": 85511, "validation": 10102, "test": 4890}
    spec = Spec(
        name="speech_commands",
        summary="one word in one second, as log-mel features",
        needs="extra `audio`, a download of 2.37 GiB",
        features=log_mel.describe(),
        channels=log_mel.mels,
        classes=("down", "go", "left", "no", "off", "on", "right", "stop", "up", "yes", "_silence_", "_unknown_"),
        lengths=(100, 100),
        counts={"train": parts["train"], "test": parts["test"]},
        licence="CC BY 4.0",
        citation="P. Warden. Speech Commands: A Dataset for Limited-Vocabulary Speech Recognition. 2018, "
        "arXiv:1804.03209",
        homepage="https://arxiv.org/abs/1804.03209",
        split_rule="the official builder's: train, validation (10102 recordings, used as such) and test; "
        "no speaker is in two of them",
        references=(
            Reference(
                "test accuracy of MHAtt-RNN (convolutions, bidirectional RNN, multi-head attention), version 2 with "
                "12 labels",
                0.98,
                "O. Rybakov et al. Streaming keyword spotting on mobile devices. Interspeech 2020, arXiv:2005.06720",
            ),
        ),
    )
