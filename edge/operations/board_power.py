"""Power rails of a Jetson, and the energy that they took: INA3221 monitors, as the kernel's hwmon shows them.

A monitor has three channels: `in1_label` names the rail, `in1_input` is its voltage in mV, `curr1_input` its current in
mA. Its further inputs are voltages of the shunts, and their sum: no rails. Newer monitors tell `power1_input` in µW.
"""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edge.operations.board_text import read_number, read_text

_CHANNELS = (1, 2, 3)
_UNUSED = ("", "NC")
_FEEDS_ALL = ("VDD_IN", "VIN", "POM_5V_IN")
"""The rail through which everything is fed: of Orin Nano and NX, of Thor, of the first Nano. An AGX Orin has none."""


def read_rails(root: Path) -> dict[str, float]:
    """Return the power of each rail in mW; empty where the board has no monitor."""
    rails: dict[str, float] = {}
    for folder in _monitors(root):
        for channel in _CHANNELS:
            name, power_mw = _channel(folder, channel)
            if power_mw is not None and name not in _UNUSED:
                rails[name] = round(power_mw, 3)
    return rails


def total_mw(rails: dict[str, float]) -> float | None:
    """Return the power of the rail that feeds all, or of all rails together, in mW.

    Their sum is less than what the supply gives: regulators and carrier board take theirs.
    """
    for name in _FEEDS_ALL:
        if name in rails:
            return rails[name]
    return sum(rails.values()) if rails else None


@dataclass(frozen=True, kw_only=True, slots=True)
class Energy:
    """What was taken between the first and the last sample."""

    seconds: float
    samples: int
    total_j: float
    mean_mw: float
    rails_j: dict[str, float]
    """By rail."""

    def as_dict(self) -> dict[str, Any]:
        """Return the same as plain data."""
        return asdict(self)


class PowerMeter:
    """Adds up energy from samples of power, between which it goes in straight lines.

    It has no thread: whoever measures calls `sample` now and then, ten times a second or so. A sample costs some
    milliseconds, as the monitors hang on a slow bus.
    """

    def __init__(self, root: Path = Path("/"), clock_ns: Callable[[], int] = time.monotonic_ns) -> None:
        """Begin without a sample.

        Args:
            root: folder in which /sys is looked for.
            clock_ns: time of a sample, ns.
        """
        self._root = root
        self._clock_ns = clock_ns
        self._first_ns = 0
        self._last: tuple[int, dict[str, float]] | None = None
        self._samples = 0
        self._joules: dict[str, float] = {}
        self._total_j = 0.0

    def sample(self) -> dict[str, float] | None:
        """Take a sample, and return it in mW by rail; None where the board has no monitor."""
        rails, now_ns = read_rails(self._root), self._clock_ns()
        if not rails:
            return None
        if self._last is None:
            self._first_ns = now_ns
        else:
            self._add(*self._last, now_ns, rails)
        self._last = (now_ns, rails)
        self._samples += 1
        return rails

    def energy(self) -> Energy | None:
        """Return what was taken so far; None before the second sample."""
        if self._last is None or self._last[0] <= self._first_ns:
            return None
        seconds = (self._last[0] - self._first_ns) / 1e9
        return Energy(
            seconds=seconds,
            samples=self._samples,
            total_j=self._total_j,
            mean_mw=self._total_j / seconds * 1e3,
            rails_j=dict(self._joules),
        )

    def _add(self, then_ns: int, then: dict[str, float], now_ns: int, now: dict[str, float]) -> None:
        """Add the energy between two samples; a rail that answered in one of them alone adds nothing."""
        seconds = (now_ns - then_ns) / 1e9
        both = {name: (then[name] + now[name]) / 2e3 * seconds for name in now if name in then}
        for name, joules in both.items():
            self._joules[name] = self._joules.get(name, 0.0) + joules
        self._total_j += total_mw(both) or 0.0  # of joules as of mW: the rail that feeds all, or their sum


def _monitors(root: Path) -> list[Path]:
    try:
        folders = sorted((root / "sys/class/hwmon").glob("hwmon*"))
    except OSError:
        return []
    return [folder for folder in folders if (read_text(folder / "name") or "").startswith("ina")]


def _channel(folder: Path, channel: int) -> tuple[str, float | None]:
    """Return the name and the power in mW of a channel."""
    label = read_text(folder / f"in{channel}_label") or read_text(folder / f"power{channel}_label") or ""
    power_uw = read_number(folder / f"power{channel}_input")
    if power_uw is not None:
        return label or read_text(folder / "name") or "", power_uw / 1e3
    voltage_mv, current_ma = (read_number(folder / f"{kind}{channel}_input") for kind in ("in", "curr"))
    if voltage_mv is None or current_ma is None:
        return label, None
    return label, voltage_mv * current_ma / 1e3
