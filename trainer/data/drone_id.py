"""DJI DroneID as a receiver of 250 kS/s hears it: a slice of a band a hundred times wider, and short.

The recording of `drone_rf` is 4.5 ms at 50 MS/s, with bursts in two bands. A narrow receiver tuned somewhere into one
of them gets 1126 samples, an eighth of a window; the rest of the window is its own noise. DroneRF, of the same folder,
is cut into pieces of 26 us, six samples of such a receiver: nothing of it can be heard.

Source: DJI Mavic Air 2, RUB-SysSec/DroneSecurity (AGPL-3.0).
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.errors import InputError
from trainer.data.uavpair7 import SAMPLE_RATE_HZ, WINDOW_SAMPLES

FILE = "drone_rf/mavic_air_2.sigmf-data"
_RECORDED_HZ = 50_000_000
_BANDS_HZ = ((-2_500_000, 6_500_000), (-16_970_000, -7_970_000))
"""Where the annotated bursts lie, from the centre of 2457.5 MHz."""
_STEP = _RECORDED_HZ // SAMPLE_RATE_HZ
_POWER_BLOCK_SAMPLES = 64


class DroneId:
    """The recording, to be tuned into."""

    def __init__(self, path: Path) -> None:
        """Read it.

        Raises:
            InputError: it is damaged.
        """
        data = np.fromfile(path, np.complex64)
        if not _POWER_BLOCK_SAMPLES * _STEP <= len(data) <= WINDOW_SAMPLES * _STEP or not np.isfinite(data).all():
            raise InputError(f"{path}: {len(data)} samples, or some not finite: expected cf32 of 4.5 ms, copy it again")
        self._samples = data

    def heard(self, rng: np.random.Generator) -> tuple[NDArray[np.float64], float]:
        """Return a window (8192, 2), silent but for the recording at a random place, and the power of its bursts."""
        low, high = _BANDS_HZ[rng.integers(len(_BANDS_HZ))]
        turn = -2j * np.pi * rng.uniform(low, high) / _RECORDED_HZ
        mixed = self._samples * np.exp(turn * np.arange(len(self._samples)))
        slices = mixed[: len(mixed) // _STEP * _STEP].reshape(-1, _STEP).mean(axis=1)
        blocks = np.abs(slices[: len(slices) // _POWER_BLOCK_SAMPLES * _POWER_BLOCK_SAMPLES]) ** 2
        power = float(np.percentile(blocks.reshape(-1, _POWER_BLOCK_SAMPLES).mean(axis=1), 90))
        window = np.zeros((WINDOW_SAMPLES, 2))
        start = int(rng.integers(WINDOW_SAMPLES - len(slices) + 1))
        window[start : start + len(slices)] = np.stack([slices.real, slices.imag], axis=1)
        return window, power
