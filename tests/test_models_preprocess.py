import sys
import tracemalloc
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.errors import DeviceError, InputError
from models.preprocess import (
    MOST_SHAPES,
    Scratch,
    image_planes,
    image_scaling,
    opencv,
    preprocess,
    preprocess_image,
    preprocess_iq,
)
from models.spec import ImageRecipe, IqRecipe

RESIZED_CRC = 3165524574
"""Of one frame, as made on x86 by OpenCV 4.5, 4.11 and 5.0, and on aarch64."""
ROUNDING = 1e-4
"""Of float32 over a window of some thousand samples, relative to its RMS of 1."""


def iq_input(samples: NDArray[Any]) -> NDArray[np.float32]:
    out = np.full((2, len(samples)), np.nan, np.float32)
    preprocess_iq(samples, out)
    return out


def image_input(frame: NDArray[Any], recipe: ImageRecipe) -> NDArray[np.float32]:
    out = np.full(recipe.input_shape, np.nan, np.float32)
    preprocess_image(frame, recipe, out)
    return out


def noise(samples: int, seed: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((samples, 2)).astype(np.float32)


def frame(height: int, width: int) -> NDArray[np.uint8]:
    return np.random.default_rng(height * 10_000 + width).integers(0, 256, (height, width, 3), np.uint8)


@given(st.integers(16, 3000), st.integers(0, 1000), st.floats(1e-3, 1e3), st.floats(-100, 100), st.floats(-100, 100))
def test_neither_gain_nor_dc_reaches_the_network(
    samples: int, seed: int, gain: float, dc_i: float, dc_q: float
) -> None:
    window = noise(samples, seed)
    received = (window + np.array([dc_i, dc_q], np.float32)) * np.float32(gain)
    np.testing.assert_allclose(iq_input(received), iq_input(window), atol=ROUNDING)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "float32"])
def test_samples_of_any_type_become_an_input_without_an_array_made_for_them(dtype: str) -> None:
    window = (40 * noise(65_536, 1) + 64).astype(dtype)
    out = np.empty((2, 65_536), np.float32)
    preprocess_iq(window, out)
    tracemalloc.start()
    preprocess_iq(window, out)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 65_536  # a byte a sample would be the least; NumPy's own buffers have 32 kB, however long it is


@pytest.mark.parametrize(("dtype", "bias"), [("uint8", 127), ("int8", 0), ("int16", 0)])
def test_integers_of_any_kind_give_the_input_of_the_same_numbers(dtype: str, bias: int) -> None:
    window = (20 * noise(4096, 1)).astype(np.int8)
    received = (window.astype(np.int16) + bias).astype(dtype)
    np.testing.assert_allclose(iq_input(received), iq_input(window.astype(np.float32)), atol=ROUNDING)


@given(st.integers(16, 3000), st.integers(0, 1000))
def test_a_window_comes_out_with_unit_rms_and_no_dc(samples: int, seed: int) -> None:
    out = iq_input(noise(samples, seed)).astype(np.float64)
    assert np.sqrt((out**2).sum(axis=0).mean()) == pytest.approx(1.0, abs=ROUNDING)
    np.testing.assert_allclose(out.mean(axis=1), 0.0, atol=ROUNDING)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int16, np.float32])
def test_every_sample_type_of_the_wire_gives_the_same_input(dtype: type) -> None:
    window = np.random.default_rng(1).integers(0, 100, (512, 2))
    np.testing.assert_allclose(iq_input(window.astype(dtype)), iq_input(window.astype(np.float64)), atol=ROUNDING)


def test_the_offset_of_an_unsigned_receiver_goes() -> None:
    window = np.round(noise(2048, 2) * 20 + 127.4).astype(np.uint8)
    centred = window.astype(np.float32) - 127.4
    np.testing.assert_allclose(iq_input(window), iq_input(centred), atol=ROUNDING)


@given(st.floats(-1e6, 1e6, width=32), st.floats(-1e6, 1e6, width=32), st.integers(16, 3000))
def test_a_constant_window_gives_zeros(level_i: float, level_q: float, samples: int) -> None:
    window = np.tile(np.array([level_i, level_q], np.float32), (samples, 1))
    assert not iq_input(window).any()


def test_i_stays_first_and_q_second() -> None:
    window = np.zeros((16, 2), np.float32)
    window[::2, 0] = 1.0
    out = iq_input(window)
    np.testing.assert_allclose(out[0], np.tile([1.0, -1.0], 8), atol=ROUNDING)
    assert not out[1].any()


@pytest.mark.parametrize(
    ("samples", "out"), [((16,), (2, 16)), ((16, 3), (2, 16)), ((16, 2), (2, 15)), ((16, 2), (16, 2)), ((0, 2), (2, 0))]
)
def test_a_window_of_the_wrong_shape_is_refused(samples: tuple[int, ...], out: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"expected \(n, 2\) into \(2, n\)"):
        preprocess_iq(np.zeros(samples, np.float32), np.zeros(out, np.float32))


@given(st.integers(0, 255))
def test_a_grey_frame_comes_out_as_its_normalised_value(grey: int) -> None:
    recipe = ImageRecipe(height_px=8, width_px=12, mean=(0.1, 0.5, 0.7), std=(0.2, 0.25, 0.4))
    out = image_input(np.full((24, 36, 3), grey, np.uint8), recipe)
    for plane, mean, std in zip(out, recipe.mean, recipe.std, strict=True):
        np.testing.assert_allclose(plane, (grey / 255 - mean) / std, atol=1e-6)


def test_a_bgr_frame_comes_out_as_rgb_planes() -> None:
    bgr = np.zeros((8, 8, 3), np.uint8)
    bgr[..., 0], bgr[..., 1], bgr[..., 2] = 10, 20, 30
    out = image_input(bgr, ImageRecipe(height_px=8, width_px=8, mean=(0, 0, 0), std=(1, 1, 1)))
    np.testing.assert_allclose(out[:, 0, 0] * 255, [30, 20, 10], atol=1e-3)


@pytest.mark.parametrize("halvings", [1, 2])
def test_a_frame_of_twice_or_four_times_the_size_is_averaged_over_areas(halvings: int) -> None:
    recipe = ImageRecipe(height_px=24, width_px=40, mean=(0, 0, 0), std=(1, 1, 1))
    factor = 2**halvings
    source = frame(24 * factor, 40 * factor)
    areas = source.reshape(24, factor, 40, factor, 3).mean(axis=(1, 3))
    out = image_input(source, recipe) * 255
    # OpenCV rounds to whole grey values after each halving
    np.testing.assert_allclose(out, areas[..., ::-1].transpose(2, 0, 1), atol=0.51 * halvings)


def test_a_frame_becomes_the_same_bytes_on_every_processor_and_with_every_opencv() -> None:
    rows, columns, colours = np.ogrid[:300, :400, :3]
    source = ((rows * rows + 3 * columns * (colours + 1) + rows * columns) % 256).astype(np.uint8)
    out = np.empty((3, 72, 96), np.uint8)
    preprocess_image(source, ImageRecipe(height_px=72, width_px=96), out)
    assert zlib.crc32(out.tobytes()) == RESIZED_CRC


def test_a_frame_of_the_right_size_is_not_resampled() -> None:
    source = frame(16, 16)
    out = image_input(source, ImageRecipe(height_px=16, width_px=16, mean=(0, 0, 0), std=(1, 1, 1)))
    np.testing.assert_array_equal(np.rint(out * 255), source[..., ::-1].transpose(2, 0, 1))


@given(st.integers(1, 200), st.integers(1, 200), st.integers(8, 64), st.integers(8, 64))
def test_a_frame_of_any_size_fills_the_whole_input(height: int, width: int, out_height: int, out_width: int) -> None:
    recipe = ImageRecipe(height_px=out_height, width_px=out_width, mean=(0, 0, 0), std=(1, 1, 1))
    out = image_input(frame(height, width), recipe)
    assert np.isfinite(out).all()
    assert 0 <= out.min() <= out.max() <= 1 + 1e-6


def test_a_view_with_gaps_gives_the_same_as_its_copy() -> None:
    recipe = ImageRecipe(height_px=16, width_px=16)
    view = frame(80, 90)[5:69, 3:71]
    np.testing.assert_array_equal(image_input(view, recipe), image_input(view.copy(), recipe))


@pytest.mark.parametrize(
    "bad",
    [
        np.zeros((16, 16), np.uint8),
        np.zeros((16, 16, 4), np.uint8),
        np.zeros((16, 16, 3), np.float32),
        np.zeros((0, 16, 3), np.uint8),
        np.zeros((16, 0, 3), np.uint8),
    ],
)
def test_what_is_no_bgr_frame_is_refused(bad: NDArray[Any]) -> None:
    with pytest.raises(InputError, match="expected \\(height, width, 3\\) uint8"):
        image_input(bad, ImageRecipe(height_px=8, width_px=8))


@pytest.mark.parametrize(
    "out", [np.zeros((3, 8, 9), np.float32), np.zeros((3, 8, 8)), np.zeros((3, 8, 16), np.float32)[:, :, ::2]]
)
def test_an_output_that_would_not_be_filled_is_refused(out: NDArray[Any]) -> None:
    with pytest.raises(InputError, match="expected contiguous"):
        preprocess_image(frame(8, 8), ImageRecipe(height_px=8, width_px=8), out)


def test_the_kind_of_the_recipe_decides() -> None:
    window, picture = noise(32, 3), frame(20, 20)
    image = ImageRecipe(height_px=8, width_px=8)
    from_window, from_picture = np.zeros((2, 32), np.float32), np.zeros((3, 8, 8), np.float32)
    preprocess(window, IqRecipe(window_samples=32, sample_rate_hz=1), from_window)
    preprocess(picture, image, from_picture)
    np.testing.assert_array_equal(from_window, iq_input(window))
    np.testing.assert_array_equal(from_picture, image_input(picture, image))


def test_an_absent_opencv_is_a_device_error_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(DeviceError, match=r"pip install 'uav-fusion-edge\[camera\]'"):
        opencv()


@given(st.integers(1, 200), st.integers(1, 200))
def test_a_frame_as_bytes_is_the_frame_before_it_is_normalised(height: int, width: int) -> None:
    recipe = ImageRecipe(height_px=20, width_px=24, mean=(0.1, 0.5, 0.7), std=(0.2, 0.25, 0.4))
    planes = np.zeros(recipe.input_shape, np.uint8)
    preprocess_image(frame(height, width), recipe, planes)
    normalised = image_input(frame(height, width), recipe)
    scale, offset = image_scaling(recipe)
    np.testing.assert_allclose(planes * scale + offset, normalised, atol=2e-6)
    np.testing.assert_array_equal(image_planes(normalised, recipe), planes)


def test_grey_values_stay_within_a_byte_whatever_was_normalised() -> None:
    recipe = ImageRecipe(height_px=8, width_px=8)
    assert image_planes(np.full((2, 3, 8, 8), -9.0, np.float32), recipe).max() == 0
    assert image_planes(np.full((2, 3, 8, 8), 9.0, np.float32), recipe).min() == 255


def test_a_scratch_changes_nothing_and_forgets_frames_of_ever_new_sizes():
    scratch, rng = Scratch(), np.random.default_rng(0)
    recipe = ImageRecipe(height_px=32, width_px=48)
    fresh, kept = np.empty(recipe.input_shape, np.float32), np.empty(recipe.input_shape, np.float32)
    for n in range(2 * MOST_SHAPES):
        frame = rng.integers(0, 256, (32 + 7 * n, 48 + 5 * n, 3), np.uint8)
        preprocess_image(frame, recipe, fresh)
        preprocess_image(frame, recipe, kept, scratch)
        np.testing.assert_array_equal(fresh, kept)
    assert len(scratch._arrays) <= MOST_SHAPES
    assert scratch.array(3, 4) is scratch.array(3, 4)


def test_opencv_has_one_thread_whatever_others_told_it() -> None:
    opencv().setNumThreads(3)
    assert opencv().getNumThreads() == 1
