import dataclasses

import numpy as np
import pytest

from training.datasets.crema_d import CremaD
from training.datasets.log_mel import LogMel
from training.datasets.speech_commands import SpeechCommands
from training.datasets.spoken_digit import SpokenDigit

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


@pytest.mark.parametrize("dataset", [SpokenDigit, SpeechCommands, CremaD])
def test_no_filter_is_empty(dataset: type[SpokenDigit | SpeechCommands | CremaD]) -> None:
    log_mel = dataset.log_mel
    filters = log_mel.filters()
    assert filters.shape == (log_mel.fft_length // 2 + 1, log_mel.mels)
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


def test_a_step_of_several_windows_is_their_mean_energy() -> None:
    short = LogMel(step=80)
    waveform = tone(500) * SECOND.astype(np.float32)
    (each,), (averaged,) = (
        short.transform([waveform]),
        dataclasses.replace(short, step=800, windows=10).transform([waveform]),
    )
    energy = (np.exp(each.astype(np.float64)) - short.offset).reshape(10, 10, 80).mean(axis=1)
    assert averaged.shape == (10, 80)
    # The logarithm and back in float32.
    np.testing.assert_allclose(averaged, np.log(energy + short.offset), atol=1e-4)


def test_what_is_missing_in_the_last_step_counts_as_silence() -> None:
    log_mel = LogMel(step=800, windows=10)
    full, short = log_mel.transform([tone(500), tone(500)[:7600]])
    assert short.shape == full.shape == (10, 80)
    # Half of the step is missing. Not exactly half of the energy, because windows reach into the next step.
    peak = full[9].argmax()
    assert np.exp(full[9, peak] - short[9, peak]) == pytest.approx(2.2, abs=0.2)


@pytest.mark.parametrize(("samples", "before"), [(1, 399), (799, 0), (500, 150), (501, 149)])
def test_a_short_waveform_stands_in_the_middle(samples: int, before: int) -> None:
    fitted = LogMel(samples=800)
    waveform = tone(700)[:samples]
    by_hand = np.zeros(800, np.float32)
    by_hand[before : before + samples] = waveform
    np.testing.assert_array_equal(fitted.transform([waveform])[0], LogMel().transform([by_hand])[0])
    assert not fitted.cuts(samples)


@pytest.mark.parametrize(("samples", "start"), [(801, 0), (802, 1), (1600, 400)])
def test_of_a_long_waveform_the_middle_is_heard(samples: int, start: int) -> None:
    fitted = LogMel(samples=800)
    waveform = tone(700)[:samples]
    np.testing.assert_array_equal(
        fitted.transform([waveform])[0], LogMel().transform([waveform[start : start + 800]])[0]
    )
    assert fitted.cuts(samples)
    assert not fitted.cuts(800)
    assert not LogMel().cuts(samples)


def test_the_sentence_says_what_the_parameters_do() -> None:
    plain = LogMel().describe()
    assert "a step every 10 ms, Hann window of 25 ms" in plain
    assert "cut" not in plain
    fitted = LogMel(sample_rate=16000, step=1600, windows=10, window=400, samples=64000).describe()
    assert "a step every 100 ms, mean energy of 10 Hann windows of 25 ms" in fitted
    assert "exactly 4 s: longer recordings are cut to their middle" in fitted


def test_the_key_follows_every_parameter() -> None:
    keys = {LogMel().key()}
    for field in dataclasses.fields(LogMel):
        keys.add(dataclasses.replace(LogMel(), **{field.name: (field.default or 1) * 2}).key())
    assert len(keys) == 1 + len(dataclasses.fields(LogMel))
