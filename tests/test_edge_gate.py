"""The quality gate: names what would mislead a network, and lets everything else pass."""

import tracemalloc

import numpy as np
import pytest

from edge.pipeline.gate import FROZEN_FRAMES, FROZEN_WINDOWS, Gate
from edge.transport.wire import Reason


def noise_window(seed: int = 0, dtype: str = "int16", amplitude: float = 1000.0, count: int = 2048):
    samples = np.random.default_rng(seed).normal(0.0, amplitude, (count, 2))
    return samples.astype(dtype)


def textured_frame(seed: int = 0, size: tuple[int, int] = (240, 320)):
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)


@pytest.mark.parametrize("dtype", ["int8", "int16", "float32"])
def test_a_noisy_window_passes(dtype):
    assert Gate().check_iq(noise_window(dtype=dtype, amplitude=20.0)) is None


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [(0, 0), (2047, 1), (1000, 0)])
def test_one_sample_that_is_not_finite_is_enough(bad, place):
    window = noise_window(dtype="float32")
    window[place] = bad
    assert Gate().check_iq(window) is Reason.NON_FINITE


def test_samples_whose_power_is_not_finite_are_refused():
    assert Gate().check_iq(noise_window(dtype="float32") * np.float32(1e30)) is Reason.NON_FINITE


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32"])
def test_silence_is_named(dtype):
    assert Gate().check_iq(np.zeros((2048, 2), dtype)) is Reason.ALL_ZERO


@pytest.mark.parametrize(("dtype", "level"), [("uint8", 127), ("int16", -300), ("float32", 0.7)])
def test_a_constant_is_dc_only(dtype, level):
    assert Gate().check_iq(np.full((2048, 2), level, dtype)) is Reason.DC_ONLY


def test_dc_with_rounding_noise_is_still_dc_only():
    window = np.full((2048, 2), 1000.0, np.float32) + np.float32(0.001) * noise_window(dtype="float32", amplitude=1.0)
    assert Gate().check_iq(window) is Reason.DC_ONLY


def test_a_weak_signal_beside_a_strong_dc_offset_passes():
    window = noise_window(dtype="float32", amplitude=0.01) + np.float32(1.0)
    assert Gate().check_iq(window) is None


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16"])
def test_an_overdriven_receiver_is_clipped(dtype):
    limits = np.iinfo(dtype)
    window = np.where(noise_window(dtype="float32") > 0, limits.max, limits.min).astype(dtype)
    assert Gate().check_iq(window) is Reason.CLIPPED


def test_a_burst_that_clips_now_and_then_passes():
    window = np.clip(noise_window(dtype="float32", amplitude=20_000.0), -32768, 32767).astype(np.int16)
    assert 0.05 < np.mean(np.abs(window.astype(int)) >= 32767) < 0.5
    assert Gate().check_iq(window) is None


def test_the_same_window_again_and_again_is_frozen_until_it_changes():
    gate = Gate()
    verdicts = [gate.check_iq(noise_window(1)) for _ in range(FROZEN_WINDOWS + 1)]
    assert verdicts == [None] * (FROZEN_WINDOWS - 1) + [Reason.FROZEN] * 2
    assert gate.check_iq(noise_window(2)) is None


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "float32"])
@pytest.mark.parametrize("amplitude", [20.0, 30_000.0], ids=["as_usual", "at_the_ends_of_the_range"])
def test_a_window_is_judged_without_an_array_made_for_it(dtype, amplitude):
    limits = np.finfo(dtype) if dtype == "float32" else np.iinfo(dtype)
    noise = [noise_window(n, "float32", amplitude, count=32_768) for n in range(4)]
    windows = [np.clip(one, limits.min, limits.max).astype(dtype) for one in noise]
    gate = Gate()
    for window in windows:
        gate.check_iq(window)
    tracemalloc.start()
    for window in windows:
        gate.check_iq(window)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < windows[0].size  # a byte a value is the least; NumPy 1 buffers 8192 values, however long the window


@pytest.mark.parametrize("size", [(8, 8), (64, 64), (240, 320), (720, 1280)])
def test_a_textured_frame_passes(size):
    assert Gate().check_frame(textured_frame(size=size)) is None


@pytest.mark.parametrize(
    ("level", "reason"), [(0, Reason.BLACK), (3, Reason.BLACK), (255, Reason.OVEREXPOSED), (128, Reason.FLAT)]
)
def test_a_frame_without_content_is_named(level, reason):
    assert Gate().check_frame(np.full((240, 320, 3), level, np.uint8)) is reason


def test_a_black_frame_with_sensor_noise_is_still_black():
    frame = np.abs(np.random.default_rng(0).normal(0, 2, (240, 320, 3))).astype(np.uint8)
    assert Gate().check_frame(frame) is Reason.BLACK


def test_a_heavily_defocused_frame_is_blurred():
    rows, columns = np.mgrid[0:240, 0:320]
    smooth = 128 + 60 * np.sin(rows / 60.0) * np.cos(columns / 60.0)
    frame = np.repeat(smooth[..., None], 3, axis=2).astype(np.uint8)
    assert Gate().check_frame(frame) is Reason.BLURRED


def test_a_dark_but_noisy_scene_passes():
    frame = (textured_frame(3).astype(float) * 0.2).astype(np.uint8)
    assert Gate().check_frame(frame) is None


def test_a_stuck_camera_is_frozen_until_it_moves():
    gate = Gate()
    verdicts = [gate.check_frame(textured_frame(1)) for _ in range(FROZEN_FRAMES + 1)]
    assert verdicts == [None] * (FROZEN_FRAMES - 1) + [Reason.FROZEN] * 2
    assert gate.check_frame(textured_frame(2)) is None
