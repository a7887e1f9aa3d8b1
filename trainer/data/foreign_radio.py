"""Radio of none of UAVPair-7's sites: emitters of other kinds, and windows in which nobody sends.

Unknown emitters come through the same corruption as known ones, at the same SNR. They are split by kind: those that may
serve training as outliers never serve evaluation, which also asks about a drone's own signal (`drone_id.py`).

Quiet windows ask another thing: every kind of emitter was recorded by its own receiver, so a network could know the
class by the receiver's floor. One that was trained on bursts must know nothing about windows without one.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.errors import InputError
from trainer.data.arrays import load_arrays
from trainer.data.corruption import ZERO_LEVEL, Draws, corrupt_radio
from trainer.data.drone_id import FILE as DRONE_FILE
from trainer.data.drone_id import DroneId
from trainer.data.uavpair7 import EMITTERS, WINDOW_SAMPLES, UavPair7

TRAINED = ("waveman", "dsc", "lacrosse")
"""Emitters of no site that training may see."""
ASKED = ("silvercrest", "ec3k", "door_bell")
"""Emitters of no site that only evaluation sees."""
DRONE = "dji_droneid"
"""What a root with the recording of a drone's signal is asked about as well."""
QUIET_PER_CLASS = 16
QUIET_DRAWS = 3
_QUIET_ARRAYS = ("bg_iq", "bg_rec", "bg_src_class")


class Quiet(NamedTuple):
    """A window without a burst."""

    label: int
    """Of the site whose emitter's receiver recorded it."""
    iq: NDArray[np.float32]


class ForeignRadio:
    """The windows of one data root that belong to no site, as far as it has any."""

    def __init__(self, data: UavPair7) -> None:
        """Read them from the file of the data's own windows.

        Raises:
            InputError: they are damaged.
        """
        arrays = load_arrays(data.windows_path, ("y", "classes"), "radio windows", _QUIET_ARRAYS)
        self._data = data
        kinds = [str(name) for name in arrays["classes"]]
        windows = {name: np.flatnonzero(arrays["y"] == code) for code, name in enumerate(kinds)}
        self.windows = {name: windows[name] for name in (*TRAINED, *ASKED) if len(windows.get(name, ()))}
        """Windows of each emitter of no site."""
        drone = data.root / DRONE_FILE
        self._drone = DroneId(drone) if drone.is_file() else None
        self.asked = (*(name for name in ASKED if name in self.windows), *([DRONE] if self._drone else []))
        """What evaluation asks about."""
        self._quiet = arrays.get("bg_iq", np.empty((0, WINDOW_SAMPLES, 2), np.uint8))
        self._quiet_recordings = [str(name) for name in arrays.get("bg_rec", ())]
        senders = [kinds[code] for code in arrays.get("bg_src_class", ())]
        self._quiet_labels = np.array([EMITTERS.index(name) if name in EMITTERS else -1 for name in senders], np.int64)
        shape, dtype = self._quiet.shape, self._quiet.dtype
        if (
            shape[1:] != (WINDOW_SAMPLES, 2)
            or dtype != np.uint8
            or not len(senders) == len(self._quiet_recordings) == len(self._quiet)
        ):
            raise InputError(
                f"{data.windows_path}: bg_iq is {dtype} {shape}, with {len(senders)} classes: copy it again"
            )

    def unknown(self, emitter: str, snr_db: float, rng: np.random.Generator, draws: Draws) -> NDArray[np.float32]:
        """Return a window of an emitter of no site, corrupted as those of the sites are."""
        if emitter == DRONE and self._drone is not None:
            heard, power = self._drone.heard(rng)
            return corrupt_radio(heard + ZERO_LEVEL, power / 10 ** (snr_db / 10), draws)
        window = int(rng.choice(self.windows[emitter]))
        power = self._data.burst_power(self._data.recordings[window])
        return corrupt_radio(self._data.windows[window], power / 10 ** (snr_db / 10), draws)

    def quiet(self, snr_db: float) -> Iterator[Quiet]:
        """Yield windows without a burst of each site's receivers, from all recordings, each in several draws of noise.

        `snr_db` is that of the bursts of the same recording, which are not there.
        """
        known = [np.flatnonzero(self._quiet_labels == label) for label in range(len(EMITTERS))]
        for label, windows in enumerate(known):
            chosen = windows[np.linspace(0, len(windows) - 1, QUIET_PER_CLASS).astype(int)] if len(windows) else windows
            for window in np.unique(chosen):
                power = self._data.burst_power(self._quiet_recordings[window])
                for draw in range(QUIET_DRAWS):
                    rng = np.random.default_rng([20_254, int(window), draw])
                    yield Quiet(label, corrupt_radio(self._quiet[window], power / 10 ** (snr_db / 10), rng))
