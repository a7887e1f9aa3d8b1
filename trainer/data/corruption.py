"""What makes the examples of UAVPair-7 hard: receiver noise and a carrier offset on the radio; blur, dusk and noise on
the scene. Equal draws give equal examples.

The offset and the noise are never left out: every emitter was recorded by its own receiver, which would tell the class.
"""

from functools import cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from models.preprocess import opencv

ZERO_LEVEL = 127.4
"""Of the RTL-SDR's unsigned bytes."""

_MAX_OFFSET = 0.08  # cycles per sample
_FINE_TURNS = 128
_BLOCK_SEED = 20251
_BLOCK_VALUES = 1 << 22


class Draws(Protocol):
    """Where random numbers come from; numpy's Generator is one such place."""

    def normal(self, loc: float, scale: float, size: Any) -> NDArray[Any]:
        """Return normal numbers."""

    def uniform(self, low: float, high: float) -> float:
        """Return a number between two."""


class BlockDraws:
    """Normal numbers cut out of one long block at random places, float32: a tenth of the cost of fresh ones.

    For training only: the 4 million numbers are the same in every run, where each cut begins is drawn.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng

    def normal(self, loc: float, scale: float, size: Any) -> NDArray[np.float32]:
        """Return normal numbers, at most a million."""
        block = _block()
        count = int(np.prod(size))
        start = int(self.rng.integers(len(block) - count))
        cut: NDArray[np.float32] = block[start : start + count] * np.float32(scale)
        cut += np.float32(loc)
        shaped: NDArray[np.float32] = cut.reshape(size)
        return shaped

    def uniform(self, low: float, high: float) -> float:
        """Return a number between two."""
        return self.rng.uniform(low, high)


def corrupt_radio(window: NDArray[Any], noise_power: float, draws: Draws) -> NDArray[np.float32]:
    """Add receiver noise and a carrier offset, then remove DC and scale to unit RMS.

    Args:
        window: (n, 2) unsigned bytes, or numbers about the same zero.
        noise_power: of the complex noise, in squared byte steps.
        draws: the noise's real part is drawn first, then its imaginary part, then the offset.
    Returns:
        (n, 2) float32.
    """
    sigma = float(np.sqrt(noise_power / 2))
    real, imaginary = draws.normal(0.0, sigma, len(window)), draws.normal(0.0, sigma, len(window))
    offset = draws.uniform(-_MAX_OFFSET, _MAX_OFFSET)
    samples = np.empty(len(window), np.result_type(real.dtype, np.complex64))
    np.subtract(window[:, 0], ZERO_LEVEL, out=samples.real, casting="same_kind")
    np.subtract(window[:, 1], ZERO_LEVEL, out=samples.imag, casting="same_kind")
    samples.real += real
    samples.imag += imaginary
    samples *= _carrier(offset, samples)
    samples -= samples.mean()
    samples /= np.sqrt(np.mean(samples.real**2 + samples.imag**2))
    return np.stack([samples.real, samples.imag], axis=1).astype(np.float32, copy=False)


def corrupt_scene(frame: NDArray[np.uint8], severity: float, draws: Draws) -> NDArray[np.uint8]:
    """Blur, darken and add noise to a BGR frame; severity 0 leaves it as it is."""
    cv2 = opencv()
    rgb = cv2.cvtColor(frame, cv2.COLOR_BGR2RGB).astype(np.float32)
    if severity > 0:
        rgb = cv2.GaussianBlur(rgb, (0, 0), 0.01 + 2.5 * severity)
    noisy = draws.normal(0.0, 18 * severity, frame.shape)
    rgb *= np.float32(1 - 0.6 * severity)
    noisy += rgb
    np.clip(np.rint(noisy, out=noisy), 0, 255, out=noisy)
    turned: NDArray[np.uint8] = cv2.cvtColor(noisy.astype(np.uint8), cv2.COLOR_RGB2BGR)
    return turned


def _carrier(offset: float, samples: NDArray[Any]) -> NDArray[Any]:
    """Return exp(2 pi j offset n) in the samples' precision, as products of a coarse and a fine turn: a tenth of the
    exponentials' cost.
    """
    turn = 2j * np.pi * offset
    coarse = np.exp(turn * _FINE_TURNS * np.arange(-(-len(samples) // _FINE_TURNS))).astype(samples.dtype)
    fine = np.exp(turn * np.arange(_FINE_TURNS)).astype(samples.dtype)
    return np.outer(coarse, fine).ravel()[: len(samples)]


@cache
def _block() -> NDArray[np.float32]:
    return np.random.default_rng(_BLOCK_SEED).standard_normal(_BLOCK_VALUES, np.float32)
