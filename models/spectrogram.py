"""Power over frequency and time of a window of I/Q: the same in training and in flight, into arrays made once.

Levels are logarithms of power, moved and scaled so that white noise has mean 0 and deviation 1: the power of a bin of
noise is exponentially distributed, and its logarithm has the mean -gamma and the deviation pi/sqrt(6).
"""

import math
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from models.errors import InputError
from models.spec import IqRecipe

POWER_FLOOR = 1e-3
"""Added to a bin's power, whose mean over a window is 1: 30 dB below it differences are the receiver's, not the
emitter's, and silence has a level too."""
LOG_MEAN = -0.5772156649
LOG_DEVIATION = math.pi / math.sqrt(6.0)
_HAS_OUT = np.lib.NumpyVersion(np.__version__) >= "2.0.0"
"""Whether NumPy transforms into an array that is given, in single precision; older ones allocate, in double."""


class Spectrogram:
    """Makes the spectrograms of one recipe, one after the other; not for several threads."""

    def __init__(self, recipe: IqRecipe) -> None:
        """Make all arrays.

        Raises:
            InputError: the recipe asks for no spectrogram.
        """
        if recipe.spectrogram is None:
            raise InputError("recipe without spectrogram: expected one to make spectrograms by")
        size, hop = recipe.spectrogram.fft_size, recipe.spectrogram.hop
        self.recipe = recipe
        self.iq: NDArray[np.float32] = np.zeros((2, recipe.window_samples), np.float32)
        """(2, window): put a window here, without DC and of unit RMS as `preprocess_iq` makes it."""
        skipped = (recipe.window_samples - size) % hop
        self._i, self._q = (sliding_window_view(channel, size)[skipped::hop] for channel in self.iq)
        scaled = np.float32(math.sqrt(size)) * taper(recipe.spectrogram.taper, size)  # the transform divides by it
        self._taper = np.tile(scaled, (len(self._i), 1))
        self._frames: NDArray[np.complex64] = np.empty(self._i.shape, np.complex64)
        self._bins: NDArray[np.complex64] = np.empty(self._i.shape, np.complex64)
        self._power: NDArray[np.float32] = np.empty(self._i.shape, np.float32)
        self._squares: NDArray[np.float32] = np.empty(self._i.shape, np.float32)

    def power(self) -> NDArray[np.float32]:
        """Return the power of each bin, (frames, fft_size) in the order of `np.fft`; overwritten by the next call.

        Each frame obeys Parseval: its bins sum to fft_size times the energy of the tapered samples. White noise of
        unit power has the mean 1.
        """
        for overlapping, part in ((self._i, self._frames.real), (self._q, self._frames.imag)):
            np.copyto(self._power, overlapping)  # multiplied as they are, NumPy would make an array of them
            np.multiply(self._power, self._taper, out=part)
        _transform(self._frames, self._bins)
        np.multiply(self._bins.real, self._bins.real, out=self._power)
        np.multiply(self._bins.imag, self._bins.imag, out=self._squares)
        np.add(self._power, self._squares, out=self._power)
        return self._power

    def write(self, out: NDArray[np.float32]) -> None:
        """Write the levels of the window in `iq`.

        Args:
            out: (1, fft_size, frames), overwritten: lowest frequency first, the tuned one in the middle, newest last.
        Raises:
            InputError: another shape.
        """
        if out.shape != self.recipe.input_shape:
            raise InputError(f"output of shape {out.shape}: expected {self.recipe.input_shape}")
        levels = self.power()
        levels += np.float32(POWER_FLOOR)
        np.log(levels, out=levels)
        levels -= np.float32(LOG_MEAN)
        levels *= np.float32(1.0 / LOG_DEVIATION)
        negative = levels.shape[1] // 2
        np.copyto(out[0, :negative], levels[:, -negative:].T)
        np.copyto(out[0, negative:], levels[:, :-negative].T)


def taper(kind: str, size: int) -> NDArray[np.float32]:
    """Return a taper, (size,), whose squares sum to 1, so that it changes no mean power."""
    shape: NDArray[Any] = 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(size) / size) if kind == "hann" else np.ones(size)
    scaled: NDArray[np.float32] = (shape / np.sqrt(np.sum(shape**2))).astype(np.float32)
    return scaled


def _transform(frames: NDArray[np.complex64], out: Any) -> None:
    """Transform each row, divided by the root of its length: otherwise NumPy computes in double, in new arrays."""
    if _HAS_OUT:
        np.fft.fft(frames, axis=1, norm="ortho", out=out)
    else:
        np.copyto(out, np.fft.fft(frames, axis=1, norm="ortho"), casting="same_kind")
