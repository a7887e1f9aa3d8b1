"""Spectrograms keep the laws of the transform, and are the same wherever they are made."""

import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from models import spectrogram
from models.errors import InputError
from models.preprocess import Scratch, preprocess, preprocess_iq
from models.schema import dump_yaml, parse_yaml
from models.spec import MAX_FFT, IqRecipe, ModalitySpec, SpectrogramRecipe
from models.spectrogram import LOG_DEVIATION, LOG_MEAN, POWER_FLOOR, Spectrogram, taper

ROUNDING = 2e-4
"""Of float32 in transforms of a hundred samples and logarithms."""
WINDOW, SIZE, HOP = 1024, 64, 32
FLOOR = (np.log(POWER_FLOOR) - LOG_MEAN) / LOG_DEVIATION


def recipe(size: int = SIZE, hop: int = HOP, kind: Any = "hann", window: int = WINDOW) -> IqRecipe:
    shape = SpectrogramRecipe(fft_size=size, hop=hop, taper=kind)
    return IqRecipe(window_samples=window, sample_rate_hz=1_000_000, spectrogram=shape)


def noise(seed: int, window: int = WINDOW) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((window, 2)).astype(np.float32)


def tone(cycles: float, window: int = WINDOW) -> NDArray[np.float32]:
    """Return a tone of so many cycles in a transform, (window, 2)."""
    phase = 2 * np.pi * cycles * np.arange(window) / SIZE
    return np.stack((np.cos(phase), np.sin(phase)), axis=1).astype(np.float32)


def levels(samples: NDArray[Any], of: IqRecipe, scratch: Scratch | None = None) -> NDArray[np.float32]:
    out = np.full(of.input_shape, np.nan, np.float32)
    preprocess(samples, of, out, scratch)
    return out[0]


@given(st.integers(8, 100), st.integers(0, 1000), st.sampled_from(["hann", "none"]), st.data())
def test_the_bins_of_a_frame_hold_the_energy_of_its_samples(size: int, seed: int, kind: str, data: Any) -> None:
    hop = data.draw(st.integers(1, size))
    made = Spectrogram(recipe(size, hop, kind, 300))
    preprocess_iq(noise(seed, 300), made.iq)
    power = made.power()
    frames = [made.iq[:, 300 - size - n * hop :][:, :size] for n in range((300 - size) // hop + 1)][::-1]
    energy = [size * np.sum((frame * taper(kind, size)) ** 2, dtype=np.float64) for frame in frames]
    np.testing.assert_allclose(power.sum(axis=1), energy, rtol=ROUNDING)


@pytest.mark.parametrize("cycles", [-32, -31, -7, 1, 7, 31])
@pytest.mark.parametrize("kind", ["hann", "none"])
def test_a_tone_stands_out_at_its_frequency_in_every_frame(cycles: int, kind: str) -> None:
    found = levels(tone(cycles), recipe(kind=kind))
    assert (found.argmax(axis=0) == SIZE // 2 + cycles).all()
    assert (np.sort(found, axis=0)[-1] > 3.0).all()


def test_a_tone_without_taper_has_no_power_anywhere_else() -> None:
    found = levels(tone(5), recipe(kind="none"))
    others = np.delete(found, SIZE // 2 + 5, axis=0)
    np.testing.assert_allclose(others, FLOOR, atol=ROUNDING)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "float32"])
def test_an_offset_leaves_no_line_at_the_tuned_frequency(dtype: str) -> None:
    bias = 127.0 if dtype == "uint8" else 40.0
    window = (20 * noise(3) + bias).astype(dtype)
    middle = levels(window, recipe())[SIZE // 2]
    assert middle.mean() < 0.0


def test_noise_has_mean_0_and_deviation_1() -> None:
    found = levels(noise(1, 1 << 16), recipe(window=1 << 16, hop=SIZE))
    assert abs(found.mean()) < 0.02
    assert abs(found.std() - 1.0) < 0.02


@given(st.integers(0, 1000), st.floats(1e-3, 1e3))
def test_gain_changes_nothing(seed: int, gain: float) -> None:
    window = noise(seed)
    np.testing.assert_allclose(levels(window * np.float32(gain), recipe()), levels(window, recipe()), atol=5e-3)


def test_samples_a_hop_later_are_the_same_frames_one_further() -> None:
    period = np.tile(noise(4, HOP * 4), (40, 1))
    early, late = levels(period[:WINDOW], recipe()), levels(period[HOP : HOP + WINDOW], recipe())
    np.testing.assert_allclose(late[:, :-1], early[:, 1:], atol=ROUNDING)


def test_the_newest_samples_are_in_the_last_frame_and_a_burst_in_its_own() -> None:
    window = np.zeros((1000, 2), np.float32)
    window[-40:] = tone(8, 40)
    found = levels(window, recipe(window=1000))
    assert found.shape == (SIZE, 1 + (1000 - SIZE) // HOP)
    assert found[:, -1].max() > 3.0
    assert found[:, :-2].max() < found[:, -1].max() - 3.0


def test_a_constant_window_is_the_floor_everywhere() -> None:
    np.testing.assert_allclose(levels(np.full((WINDOW, 2), 7, np.int16), recipe()), FLOOR, atol=1e-5)


def test_a_scratch_kept_for_a_stream_gives_the_same_as_none() -> None:
    scratch, of = Scratch(), recipe(window=4096, size=128, hop=64)
    windows = [noise(n, 4096) for n in range(4)]
    alone = [levels(window, of) for window in windows]
    out = np.empty(of.input_shape, np.float32)
    for window, expected in zip(windows, alone, strict=True):
        preprocess(window, of, out, scratch)
        np.testing.assert_array_equal(out[0], expected)


@pytest.mark.skipif(not spectrogram._HAS_OUT, reason="NumPy before 2.0 transforms into new arrays, in double")
def test_a_scratch_kept_for_a_stream_allocates_nothing() -> None:
    scratch, of, window = Scratch(), recipe(window=1 << 16, size=128, hop=64), noise(1, 1 << 16)
    out = np.empty(of.input_shape, np.float32)
    preprocess(window, of, out, scratch)
    tracemalloc.start()
    preprocess(window, of, out, scratch)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < out.size  # a byte a level would be the least; NumPy's own buffers have 64 kB, however long it is


def test_a_scratch_follows_a_change_of_recipe() -> None:
    scratch = Scratch()
    for of in (recipe(), recipe(hop=16), recipe()):
        np.testing.assert_array_equal(levels(noise(2), of, scratch), levels(noise(2), of))


def test_an_older_numpy_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    now = levels(noise(2), recipe())
    monkeypatch.setattr(spectrogram, "_HAS_OUT", False)
    np.testing.assert_allclose(levels(noise(2), recipe()), now, atol=ROUNDING)


def test_levels_agree_with_a_plain_computation() -> None:
    window = noise(6).astype(np.float64)
    samples = window[:, 0] + 1j * window[:, 1]
    samples -= samples.mean()
    samples /= np.sqrt(np.mean(np.abs(samples) ** 2))
    shape = np.hanning(SIZE + 1)[:-1]
    frames = np.stack([samples[n : n + SIZE] * shape for n in range(0, WINDOW - SIZE + 1, HOP)])
    power = np.abs(np.fft.fftshift(np.fft.fft(frames, axis=1), axes=1)) ** 2 / np.sum(shape**2)
    expected = (np.log(power + POWER_FLOOR) - LOG_MEAN) / LOG_DEVIATION
    np.testing.assert_allclose(levels(window, recipe()), expected.T, atol=2e-3)


@pytest.mark.parametrize("fields", [{"fft_size": 7}, {"fft_size": MAX_FFT + 1}, {"hop": 0}, {"hop": 65}])
def test_a_spectrogram_that_cannot_be_is_refused(fields: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="expected"):
        SpectrogramRecipe(**({"fft_size": 64, "hop": 32} | fields))


@pytest.mark.parametrize(("window", "size", "hop"), [(63, 64, 32), (1 << 20, 4096, 1)])
def test_a_window_that_cannot_have_it_is_refused(window: int, size: int, hop: int) -> None:
    with pytest.raises(ValueError, match="spectrogram"):
        recipe(size, hop, window=window)


def test_shapes_that_differ_are_refused() -> None:
    with pytest.raises(InputError, match="expected"):
        preprocess(noise(1), recipe(), np.empty((1, SIZE, 5), np.float32))
    with pytest.raises(InputError, match="expected"):
        preprocess(noise(1)[:-1], recipe(), np.empty(recipe().input_shape, np.float32))
    with pytest.raises(InputError, match="without spectrogram"):
        Spectrogram(IqRecipe(window_samples=64, sample_rate_hz=1))


def test_a_manifest_says_nothing_of_spectrograms_where_there_are_none() -> None:
    plain = IqRecipe(window_samples=64, sample_rate_hz=1000)
    modalities = [ModalitySpec(name="iq", recipe=one, feature_size=8) for one in (plain, recipe())]
    texts = [dump_yaml(modality) for modality in modalities]
    assert [b"spectrogram" in text for text in texts] == [False, True]
    assert [parse_yaml(text, ModalitySpec, "manifest") for text in texts] == modalities
