"""ONBOARD_COMPUTER_STATUS from the board's own sensors, read in a thread: some hang on a slow bus."""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pymavlink.dialects.v20 import common

from edge.clock import Clock
from edge.mavlink.wire import codec
from edge.operations.board import Board, read_board, slowed_by
from edge.operations.board_load import (
    Disk,
    percent_between,
    read_core_times,
    read_disk,
    read_fans_rpm,
    read_gpu_percent,
)

PERIOD_S = 1.0
END_S = 0.5
_INT8_MAX, _INT16_MAX = 127, 32_767
_CPU_NAMES = ("cpu", "core", "x86_pkg", "k10temp")
"""In the names of thermal zones that tell of processor cores."""
_FULL = 0.98
"""Of a disk: then the recorder and the flight's memory pause."""
_UNDER_VOLTAGE = "under-voltage"
"""In the name of a Jetson's counter of it."""


class Besides(NamedTuple):
    """What `Board` does not tell."""

    fans_rpm: tuple[int, ...] = ()
    disk: Disk | None = None
    is_starved: bool = False
    """Whether the voltage was too low since this was first asked."""


NOTHING_BESIDES = Besides()


def onboard_status(
    board: Board, cpu_percent: Sequence[int], gpu_percent: int | None, now_ns: int, besides: Besides = NOTHING_BESIDES
) -> Any:
    """Return ONBOARD_COMPUTER_STATUS; what the board does not tell is unknown, as the message defines it.

    Args:
        board: one look at it.
        cpu_percent: how busy each core is.
        gpu_percent: how busy the GPU is.
        now_ns: since the computer was started.
        besides: what else is known.
    """
    zones, disk = board.temperatures_c or {}, besides.disk
    cores = [zone_c for name, zone_c in zones.items() if any(part in name.lower() for part in _CPU_NAMES)]
    total, free = board.memory_mib, board.memory_free_mib
    used = codec.UINT32_MAX if total is None or free is None else max(total - free, 0)
    return common.MAVLink_onboard_computer_status_message(
        time_usec=max(now_ns, 0) // 1000,
        uptime=max(now_ns, 0) // 1_000_000 & codec.UINT32_MAX,
        type=0,
        cpu_cores=_filled(cpu_percent, 8, codec.UINT8_MAX),
        cpu_combined=[codec.UINT8_MAX] * 10,
        gpu_cores=_filled([] if gpu_percent is None else [gpu_percent], 4, codec.UINT8_MAX),
        gpu_combined=[codec.UINT8_MAX] * 10,
        temperature_board=_celsius(max(zones.values())) if zones else _INT8_MAX,
        temperature_core=_filled([_celsius(core_c) for core_c in cores], 8, _INT8_MAX),
        fan_speed=_filled([min(rpm, _INT16_MAX - 1) for rpm in besides.fans_rpm], 4, _INT16_MAX),
        ram_usage=used,
        ram_total=codec.UINT32_MAX if total is None else total,
        storage_type=_filled([] if disk is None else [0], 4, codec.UINT32_MAX),
        storage_usage=_filled([] if disk is None else [disk.used_mib], 4, codec.UINT32_MAX),
        storage_total=_filled([] if disk is None else [disk.total_mib], 4, codec.UINT32_MAX),
        link_type=[codec.UINT32_MAX] * 6,
        link_tx_rate=[codec.UINT32_MAX] * 6,
        link_rx_rate=[codec.UINT32_MAX] * 6,
        link_tx_max=[codec.UINT32_MAX] * 6,
        link_rx_max=[codec.UINT32_MAX] * 6,
        status_flags=_flags(board, besides),
    )


def _flags(board: Board, besides: Besides) -> int:
    disk = besides.disk
    flags = {
        common.COMPUTER_STATUS_FLAGS_THERMAL_THROTTLE: bool(slowed_by(board)),
        common.COMPUTER_STATUS_FLAGS_UNDER_VOLTAGE: besides.is_starved,
        common.COMPUTER_STATUS_FLAGS_DISK_FULL: disk is not None and disk.used_mib >= _FULL * disk.total_mib,
    }
    return sum(int(flag) for flag, is_set in flags.items() if is_set)


class BoardWatch:
    """Looks at the board now and then, until `close`.

    Args:
        clock: of the message's times.
        root: folder in which /sys and /proc are looked for.
        period_s: between two looks.
        folder: on the disk that matters.
    """

    def __init__(
        self, clock: Clock, root: Path = Path("/"), period_s: float = PERIOD_S, folder: Path = Path("/")
    ) -> None:
        self._clock = clock
        self._root = root
        self._period_s = period_s
        self._folder = folder
        self._under_voltages: int | None = None
        self._cores = read_core_times(root)
        self._stop = threading.Event()
        self._newest: Any | None = None
        self._thread = threading.Thread(target=self._watch, name="board", daemon=True)
        self._thread.start()

    def take(self) -> Any | None:
        """Return the newest ONBOARD_COMPUTER_STATUS, None where it was taken before."""
        newest, self._newest = self._newest, None
        return newest

    def look(self) -> Any:
        """Return what the board says now; commands are not asked, as they would cost a process each."""
        before, self._cores = self._cores, read_core_times(self._root)
        board = read_board(self._root, ask=lambda _: None)
        cpu_percent = percent_between(before, self._cores)
        gpu_percent = read_gpu_percent([gpu.name for gpu in board.gpus or ()], self._root)
        besides = Besides(read_fans_rpm(self._root), read_disk(self._folder), self._is_starved(board))
        return onboard_status(board, cpu_percent, gpu_percent, self._clock.now_ns(), besides)

    def _is_starved(self, board: Board) -> bool:
        """Say whether the voltage was too low since the first look."""
        count = sum(n for name, n in (board.throttle_events or {}).items() if _UNDER_VOLTAGE in name)
        if self._under_voltages is None:
            self._under_voltages = count
        return count > self._under_voltages

    def close(self) -> None:
        """End; a sensor that hangs is not waited for."""
        self._stop.set()
        self._thread.join(END_S)

    def _watch(self) -> None:
        while not self._stop.wait(self._period_s):
            self._newest = self.look()


def _filled(values: Sequence[int], size: int, unknown: int) -> list[int]:
    return [*values[:size], *[unknown] * size][:size]


def _celsius(value_c: float) -> int:
    return round(min(max(value_c, -_INT8_MAX), _INT8_MAX - 1))
