import dataclasses

import numpy as np
import pytest

from training.datasets.log_mel import LogMel

SECOND = np.arange(8000) / 8000


def tone(frequency: float, amplitude: float = 0.5) -> np.ndarray:
    return (amplitude * np.sin(2 * np.pi * frequency * SECOND)).astype(np.float32)


def centre(log_mel: LogMel, filter_index: int) -> float:
    """Centre frequency of a filter by the HTK formula, in Hz."""
    low, high = (1127 * np.log1p(edge / 700) for edge in (log_mel.lowest, log_mel.highest))
    return float(700 * np.expm1((low + (high - low) * (filter_index + 1) / (log_mel.mels + 1)) / 1127))


@pytest.mark.parametrize(("samples", "steps"), [(1, 1), (80, 1), (81, 2), (1148, 15), (18262, 229)])
def test_steps(samples: int, steps: int) -> None:
    (features,) = LogMel().transform([np.ones(samples, np.float32)])
    assert features.shape == (steps, 80)
    assert features.dtype == np.float32
    assert LogMel().steps(samples) == steps


def test_silence_is_the_offset() -> None:
    (features,) = LogMel().transform([np.zeros(800, np.float32)])
    # ln(1e-6) in float32.
    np.testing.assert_allclose(features, -13.815511, rtol=1e-6)


@pytest.mark.parametrize("filter_index", [10, 40, 79])
def test_a_tone_is_loudest_in_its_filter(filter_index: int) -> None:
    (features,) = LogMel().transform([tone(centre(LogMel(), filter_index))])
    # Below the window's resolution of 40 Hz neighbouring filters hear the same.
    assert abs(int(features[50].argmax()) - filter_index) <= 1


def test_ten_times_the_amplitude_is_a_hundred_times_the_energy() -> None:
    quiet, loud = LogMel().transform([tone(1000, 0.05), tone(1000, 0.5)])
    peak = loud[50].argmax()
    # The offset of 1e-6 adds less than 1e-5 to the energy of the quiet tone.
    assert loud[50, peak] - quiet[50, peak] == pytest.approx(np.log(100), abs=1e-4)


def test_no_filter_is_empty() -> None:
    filters = LogMel().filters()
    assert filters.shape == (257, 80)
    assert (filters.sum(axis=0) > 0.5).all()


def test_company_does_not_change_a_waveform() -> None:
    short, long = tone(700)[:1000], tone(300)
    together = LogMel().transform([short, long])
    (alone,) = LogMel().transform([short])
    # Same sums in another order: float32 rounding of energies up to 1e3, seen through a logarithm.
    np.testing.assert_allclose(together[0], alone, atol=1e-3)


def test_more_than_one_group_keeps_the_order() -> None:
    many = [np.zeros(80 * (number % 7 + 1), np.float32) for number in range(150)]
    assert [len(features) for features in LogMel().transform(many)] == [number % 7 + 1 for number in range(150)]


def test_the_key_follows_every_parameter() -> None:
    keys = {LogMel().key()}
    for field in dataclasses.fields(LogMel):
        keys.add(dataclasses.replace(LogMel(), **{field.name: field.default * 2}).key())
    assert len(keys) == 1 + len(dataclasses.fields(LogMel))
