"""Log-mel features of speech: what most speech models see instead of the waveform."""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Utterances transformed at once: bounds the memory, and is fixed because another grouping rounds differently.
_GROUP = 64


@dataclass(frozen=True)
class LogMel:
    """The parameters of the features, and the way from waveforms to them.

    A waveform of n samples gives ceil(n / step) steps; the samples missing in the last windows count as zero.
    Per step: Hann window, power spectrum, triangular mel filters (HTK scale), ln(energy + offset).

    Attributes:
        sample_rate: Samples a second of the waveforms.
        step: Samples from one step to the next.
        window: Samples under the window of one step.
        fft_length: Samples of the Fourier transform; the window is filled up with zeros.
        mels: Filters, and so values a step.
        lowest: Lower edge of the first filter, in Hz.
        highest: Upper edge of the last filter, in Hz.
        offset: Energy added before the logarithm: silence becomes ln(offset), not minus infinity.
    """

    sample_rate: int = 8000
    step: int = 80
    window: int = 200
    fft_length: int = 512
    mels: int = 80
    lowest: float = 20.0
    highest: float = 4000.0
    offset: float = 1e-6

    def describe(self) -> str:
        """The parameters in one sentence, for a spec."""
        return (
            f"log-mel, {self.mels} mels from {self.lowest:g} to {self.highest:g} Hz; "
            f"a step every {1000 * self.step / self.sample_rate:g} ms, "
            f"Hann window of {1000 * self.window / self.sample_rate:g} ms, "
            f"{self.fft_length}-point power spectrum, ln(energy + {self.offset:g})"
        )

    def key(self) -> str:
        """A short name that changes with any parameter, for a cache."""
        parameters = json.dumps(dataclasses.asdict(self), sort_keys=True)
        return hashlib.sha256(f"log-mel-1:{parameters}".encode()).hexdigest()[:16]

    def steps(self, samples: int) -> int:
        """Steps that a waveform of that many samples gives."""
        return -(-samples // self.step)

    def filters(self) -> NDArray[np.float32]:
        """The mel filters, `[fft_length // 2 + 1, mels]`."""
        import tensorflow as tf

        bins = self.fft_length // 2 + 1
        matrix = tf.signal.linear_to_mel_weight_matrix(self.mels, bins, self.sample_rate, self.lowest, self.highest)
        return np.asarray(matrix)

    def transform(self, waveforms: Sequence[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        """Features of every waveform.

        Args:
            waveforms: float32 `[samples]` each, in -1 to 1, at `sample_rate`.

        Returns:
            float32 `[steps, mels]` each, in the same order. Values agree between machines to float32 rounding.
        """
        filters = self.filters()
        features: list[NDArray[np.float32]] = []
        for start in range(0, len(waveforms), _GROUP):
            features += self._group(waveforms[start : start + _GROUP], filters)
        return features

    def _group(self, waveforms: Sequence[NDArray[np.float32]], filters: Any) -> list[NDArray[np.float32]]:
        import tensorflow as tf

        padded = np.zeros((len(waveforms), max(map(len, waveforms))), np.float32)
        for row, waveform in zip(padded, waveforms, strict=True):
            row[: len(waveform)] = waveform
        with tf.device("CPU"):
            spectrum = tf.signal.stft(padded, self.window, self.step, self.fft_length, pad_end=True)
            energy = tf.matmul(tf.square(tf.abs(spectrum)), filters)
            values = tf.math.log(energy + self.offset).numpy()
        return [values[row, : self.steps(len(waveform))] for row, waveform in enumerate(waveforms)]
