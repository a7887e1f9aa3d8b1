"""The one preprocessing implementation, used by training, calibration and flight alike.

Every function writes into an array that the caller owns, so that the flight path allocates nothing per message.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import DeviceError, InputError
from models.spec import ImageRecipe, IqRecipe, Recipe, VectorRecipe
from models.spectrogram import Spectrogram

MIN_RMS = 1e-12
MIN_RMS_OVER_DC = 1e-6
"""Below this share of the DC level a signal is the rounding of float32, not a signal."""


MOST_SHAPES = 16


class Scratch:
    """Arrays kept from call to call: a stream whose frames keep their size allocates nothing. For one thread."""

    def __init__(self) -> None:
        self._arrays: dict[tuple[int, ...], NDArray[np.uint8]] = {}
        self._spectrogram: Spectrogram | None = None

    def spectrogram(self, recipe: IqRecipe) -> Spectrogram:
        """Return what makes spectrograms by a recipe; the same one at the next call for it."""
        if self._spectrogram is None or self._spectrogram.recipe != recipe:
            self._spectrogram = Spectrogram(recipe)
        return self._spectrogram

    def array(self, *shape: int) -> NDArray[np.uint8]:
        """Return an array of this shape with anything in it; the same one at the next call for it."""
        found = self._arrays.get(shape)
        if found is None:
            if len(self._arrays) >= MOST_SHAPES:  # frames of ever new sizes must not fill the memory
                self._arrays.clear()
            found = self._arrays[shape] = np.empty(shape, np.uint8)
        return found


def preprocess_iq(samples: NDArray[Any], out: NDArray[np.float32]) -> None:
    """Remove DC and scale to unit RMS, so that neither receiver offset nor gain reaches the network.

    Args:
        samples: (window, 2) interleaved I and Q; any integer or float type, any offset (RTL-SDR's 127.4 goes too).
        out: (2, window), overwritten. All zero where the window is constant.
    Raises:
        InputError: shapes differ, or the window is empty.
    """
    if samples.ndim != 2 or samples.shape[1] != 2 or out.shape != (2, samples.shape[0]) or not samples.size:
        raise InputError(f"I/Q window of shape {samples.shape} into {out.shape}: expected (n, 2) into (2, n)")
    np.copyto(out, samples.T, casting="unsafe")
    means = np.add.reduce(out, axis=1, keepdims=True) / np.float32(out.shape[1])
    for channel, mean in zip(out, means[:, 0], strict=True):
        channel -= mean  # not both at once: NumPy would make a buffer for the two means
    values = out.reshape(-1)
    rms = math.sqrt(float(np.dot(values, values)) / samples.shape[0])
    offset = sum(map(abs, means[:, 0].tolist()))
    out *= np.float32(1.0 / rms) if rms > max(MIN_RMS, MIN_RMS_OVER_DC * offset) else np.float32(0.0)


def preprocess_spectrogram(
    samples: NDArray[Any], recipe: IqRecipe, out: NDArray[np.float32], scratch: Scratch | None = None
) -> None:
    """Remove DC, scale to unit RMS, and write the levels of a window over frequency and time.

    Args:
        samples: (recipe.window_samples, 2), as of `preprocess_iq`.
        recipe: with a spectrogram.
        out: recipe.input_shape, overwritten.
        scratch: of this stream; without one, arrays between the steps are made anew.
    Raises:
        InputError: shapes differ.
    """
    spectrogram = (scratch or Scratch()).spectrogram(recipe)
    preprocess_iq(samples, spectrogram.iq)
    spectrogram.write(out)


def preprocess_image(
    frame: NDArray[np.uint8],
    recipe: ImageRecipe,
    out: NDArray[np.float32] | NDArray[np.uint8],
    scratch: Scratch | None = None,
) -> None:
    """Resize a frame to RGB planes, and normalise them where `out` is float32.

    The frame is halved by area averaging while it is at least twice the target (no aliasing, a tenth of the cost of
    one area resize), then resized linearly: to the same bytes on every processor. Grey values stay whole numbers until
    they are normalised, so that a graph which takes bytes and normalises them itself sees the very same.

    Args:
        frame: (height, width, 3) BGR, as OpenCV delivers it.
        recipe: target size, mean and standard deviation.
        out: (3, recipe.height_px, recipe.width_px), overwritten; uint8: as resized, for a graph that normalises.
        scratch: of this stream; without one, arrays between the steps are made anew.
    Raises:
        InputError: the frame is not (h, w, 3) uint8, or `out` is not contiguous float32 or uint8 of the recipe's shape.
        DeviceError: OpenCV is not installed.
    """
    if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8 or not frame.size:
        raise InputError(f"frame of shape {frame.shape} and type {frame.dtype}: expected (height, width, 3) uint8")
    if out.shape != recipe.input_shape or out.dtype not in (np.float32, np.uint8) or not out.flags.c_contiguous:
        raise InputError(
            f"output of shape {out.shape} and type {out.dtype}: expected contiguous {recipe.input_shape} float32"
            " or uint8"
        )
    scratch = scratch or Scratch()
    resized = _resize(frame, recipe, scratch)
    cv2 = opencv()
    for rgb in range(3):
        if out.dtype == np.uint8:
            cv2.extractChannel(resized, 2 - rgb, dst=out[rgb])
            continue
        plane = cv2.extractChannel(resized, 2 - rgb, dst=scratch.array(recipe.height_px, recipe.width_px))
        scale = 1.0 / (255.0 * recipe.std[rgb])
        cv2.addWeighted(plane, scale, plane, 0.0, -recipe.mean[rgb] / recipe.std[rgb], dst=out[rgb], dtype=cv2.CV_32F)


def _resize(frame: NDArray[np.uint8], recipe: ImageRecipe, scratch: Scratch) -> NDArray[np.uint8]:
    cv2 = opencv()
    height, width = recipe.height_px, recipe.width_px
    while frame.shape[0] >= 2 * height and frame.shape[1] >= 2 * width:
        half_height, half_width = frame.shape[0] // 2, frame.shape[1] // 2
        even = frame[: 2 * half_height, : 2 * half_width]
        half = scratch.array(half_height, half_width, 3)
        frame = cv2.resize(even, (half_width, half_height), dst=half, interpolation=cv2.INTER_AREA)
    if frame.shape[:2] == (height, width):
        return frame
    resized = scratch.array(height, width, 3)
    # INTER_LINEAR is off by one grey value on other processors: on Arm in every ninth pixel.
    return cv2.resize(  # type: ignore[no-any-return]
        frame, (width, height), dst=resized, interpolation=cv2.INTER_LINEAR_EXACT
    )


def image_scaling(recipe: ImageRecipe) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return what grey values are multiplied by, and what is then added, (3, 1, 1) each, to normalise RGB planes."""
    mean, std = (np.array(values, np.float64).reshape(3, 1, 1) for values in (recipe.mean, recipe.std))
    return (1.0 / (255.0 * std)).astype(np.float32), (-mean / std).astype(np.float32)


def image_planes(inputs: NDArray[np.float32], recipe: ImageRecipe) -> NDArray[np.uint8]:
    """Return the grey values, uint8, of normalised RGB planes (..., 3, height, width)."""
    mean, std = (np.array(values, np.float32).reshape(3, 1, 1) for values in (recipe.mean, recipe.std))
    planes: NDArray[np.uint8] = np.clip(np.rint((inputs * std + mean) * 255), 0, 255).astype(np.uint8)
    return planes


def preprocess_vector(row: NDArray[Any], recipe: VectorRecipe, out: NDArray[np.float32]) -> None:
    """Standardise a row of numbers.

    Args:
        row: (recipe.values,), any integer or float type.
        recipe: mean and standard deviation.
        out: (recipe.values, 1), overwritten.
    Raises:
        InputError: shapes differ.
    """
    if row.shape != (recipe.values,) or out.shape != recipe.input_shape:
        raise InputError(
            f"row of shape {row.shape} into {out.shape}: expected ({recipe.values},) into {recipe.input_shape}"
        )
    np.subtract(row, recipe.mean, out=out[:, 0], casting="same_kind")
    out[:, 0] /= np.asarray(recipe.std, np.float32)


def preprocess(data: NDArray[Any], recipe: Recipe, out: NDArray[Any], scratch: Scratch | None = None) -> None:
    """Preprocess one window, frame or row by the kind of its recipe; arguments and errors as the functions above."""
    if isinstance(recipe, IqRecipe) and recipe.spectrogram is not None:
        preprocess_spectrogram(data, recipe, out, scratch)
    elif isinstance(recipe, IqRecipe):
        preprocess_iq(data, out)
    elif isinstance(recipe, ImageRecipe):
        preprocess_image(data, recipe, out, scratch)
    else:
        preprocess_vector(data, recipe, out)


def opencv() -> Any:
    """Return the cv2 module, single-threaded: more threads gain nothing at these sizes and cost latency beside others.

    Raises:
        DeviceError: OpenCV is not installed.
    """
    try:
        import cv2
    except ImportError as error:
        raise DeviceError(
            "OpenCV is not installed: pip install 'uav-fusion-edge[camera]'"
            " (on a Jetson keep JetPack's own: a venv with --system-site-packages)"
        ) from error
    if cv2.getNumThreads() != 1:
        cv2.setNumThreads(1)
    return cv2
