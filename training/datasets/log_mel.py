"""Log-mel features of speech: what most speech models see instead of the waveform."""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

GROUP = 64
"""Waveforms transformed at once: bounds the memory, and is fixed because another grouping rounds differently."""


@dataclass(frozen=True)
class LogMel:
    """The parameters of the features, and the way from waveforms to them.

    A waveform of n samples gives ceil(n / step) steps; the samples missing in the last windows count as zero.
    Per step: Hann window, power spectrum, triangular mel filters (HTK scale), ln(energy + offset). A step that is much
    longer than speech stands still (some 25 ms) is better heard through several short windows than through a long one:
    with `windows` above 1 the energies of that many, evenly spaced from one step to the next, are averaged.

    Attributes:
        sample_rate: Samples a second of the waveforms.
        step: Samples from one step to the next.
        window: Samples under the window of one step.
        fft_length: Samples of the Fourier transform; the window is filled up with zeros.
        mels: Filters, and so values a step.
        lowest: Lower edge of the first filter, in Hz.
        highest: Upper edge of the last filter, in Hz.
        offset: Energy added before the logarithm: silence becomes ln(offset), not minus infinity.
        windows: Windows whose energies are averaged in a step; a divisor of `step`.
        samples: Bring every waveform to exactly that many samples: of a longer one only the middle is heard, a shorter
            one gets zeros on both sides. None keeps every length.
    """

    sample_rate: int = 8000
    step: int = 80
    window: int = 200
    fft_length: int = 512
    mels: int = 80
    lowest: float = 20.0
    highest: float = 4000.0
    offset: float = 1e-6
    windows: int = 1
    samples: int | None = None

    def describe(self) -> str:
        """The parameters in one sentence, for a spec."""
        length = f"of {1000 * self.window / self.sample_rate:g} ms"
        hann = f"Hann window {length}" if self.windows == 1 else f"mean energy of {self.windows} Hann windows {length}"
        sentence = (
            f"log-mel, {self.mels} mels from {self.lowest:g} to {self.highest:g} Hz; "
            f"a step every {1000 * self.step / self.sample_rate:g} ms, {hann}, "
            f"{self.fft_length}-point power spectrum, ln(energy + {self.offset:g})"
        )
        if self.samples is None:
            return sentence
        return (
            f"{sentence}; exactly {self.samples / self.sample_rate:g} s: longer recordings are cut to their middle, "
            "shorter ones get silence on both sides"
        )

    def key(self) -> str:
        """A short name that changes with any parameter, for a cache."""
        parameters = json.dumps(dataclasses.asdict(self), sort_keys=True)
        return hashlib.sha256(f"log-mel-1:{parameters}".encode()).hexdigest()[:16]

    def steps(self, samples: int) -> int:
        """Steps that a waveform of that many samples gives."""
        return -(-(self.samples or samples) // self.step)

    def cuts(self, samples: int) -> bool:
        """Whether something of a waveform of that many samples is not heard."""
        return self.samples is not None and samples > self.samples

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
        for start in range(0, len(waveforms), GROUP):
            features += self._group(waveforms[start : start + GROUP], filters)
        return features

    def _group(self, waveforms: Sequence[NDArray[np.float32]], filters: Any) -> list[NDArray[np.float32]]:
        import tensorflow as tf

        steps = [self.steps(len(waveform)) for waveform in waveforms]
        padded = np.zeros((len(waveforms), max(steps) * self.step), np.float32)
        for row, waveform in zip(padded, waveforms, strict=True):
            self._place(waveform, row)
        with tf.device("CPU"):
            spectrum = tf.signal.stft(padded, self.window, self.step // self.windows, self.fft_length, pad_end=True)
            energy = tf.matmul(tf.square(tf.abs(spectrum)), filters)
            energy = tf.reduce_mean(tf.reshape(energy, (len(padded), -1, self.windows, self.mels)), axis=2)
            values = tf.math.log(energy + self.offset).numpy()
        return [values[row, :length] for row, length in enumerate(steps)]

    def _place(self, waveform: NDArray[np.float32], row: NDArray[np.float32]) -> None:
        """Write a waveform into a row of zeros: where it begins, or its middle on the middle of `samples`."""
        surplus = len(waveform) - (self.samples or len(waveform))
        heard = waveform[max(surplus, 0) // 2 :][: self.samples]
        row[max(-surplus, 0) // 2 :][: len(heard)] = heard
