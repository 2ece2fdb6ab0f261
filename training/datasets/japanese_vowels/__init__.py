"""Japanese vowels: nine speakers say /ae/. Twelve channels, 7 to 29 steps; the zoo's default dataset."""

from typing import Any

from training.datasets.base import Reference, Spec
from training.datasets.store.tfds import TfdsDataset

_FAWAZ = "H. Ismail Fawaz et al. (2019), hfawaz/dl-4-tsc results/results-mts.csv; series padded to 29 steps"


class JapaneseVowels(TfdsDataset):
    """The UCI data in the UEA archive's split, through the zoo's own TFDS builder."""

    spec = Spec(
        name="japanese_vowels",
        summary="nine speakers say /ae/; the default",
        needs="nothing: ships with the package",
        features="12 LPC cepstrum coefficients a step; frames of 25.6 ms every 6.4 ms of speech sampled at 10 kHz",
        channels=12,
        classes=tuple(f"speaker_{number}" for number in range(1, 10)),
        lengths=(7, 29),
        counts={"train": 270, "test": 370},
        licence="CC BY 4.0",
        citation="M. Kudo, J. Toyama and M. Shimbo (1999). Multidimensional curve classification using "
        "passing-through regions. Pattern Recognition Letters 20(11-13), 1103-1111. doi:10.24432/C5NS47",
        homepage="https://archive.ics.uci.edu/dataset/128",
        split_rule="the archive's own: 30 utterances of every speaker are train, 24 to 88 of each are test",
        references=(
            Reference("test accuracy, FCN, mean of 10 runs", 0.99, _FAWAZ),
            Reference("test accuracy, ResNet, mean of 10 runs", 0.99, _FAWAZ),
            Reference("test accuracy, TWIESN, mean of 10 runs", 0.97, _FAWAZ),
            Reference("test accuracy, Time-CNN, mean of 10 runs", 0.96, _FAWAZ),
        ),
    )
    version = "1.0.0"

    def _builder_class(self) -> Any:
        from training.datasets.japanese_vowels.builder import JapaneseVowels as Builder

        return Builder
