"""ONBOARD_COMPUTER_STATUS from the board's own sensors, read in a thread: some hang on a slow bus."""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pymavlink.dialects.v20 import common

from edge.clock import Clock
from edge.mavlink import codec
from edge.operations.board import Board, read_board, slowed_by
from edge.operations.board_load import percent_between, read_core_times, read_gpu_percent

PERIOD_S = 1.0
END_S = 0.5
_INT8_MAX, _INT16_MAX = 127, 32_767
_CPU_NAMES = ("cpu", "core", "x86_pkg", "k10temp")
"""In the names of thermal zones that tell of processor cores."""


def onboard_status(board: Board, cpu_percent: Sequence[int], gpu_percent: int | None, now_ns: int) -> Any:
    """Return ONBOARD_COMPUTER_STATUS; what the board does not tell is unknown, as the message defines it.

    Args:
        board: one look at it.
        cpu_percent: how busy each core is.
        gpu_percent: how busy the GPU is.
        now_ns: since the computer was started.
    """
    zones = board.temperatures_c or {}
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
        fan_speed=[_INT16_MAX] * 4,
        ram_usage=used,
        ram_total=codec.UINT32_MAX if total is None else total,
        storage_type=[codec.UINT32_MAX] * 4,
        storage_usage=[codec.UINT32_MAX] * 4,
        storage_total=[codec.UINT32_MAX] * 4,
        link_type=[codec.UINT32_MAX] * 6,
        link_tx_rate=[codec.UINT32_MAX] * 6,
        link_rx_rate=[codec.UINT32_MAX] * 6,
        link_tx_max=[codec.UINT32_MAX] * 6,
        link_rx_max=[codec.UINT32_MAX] * 6,
        status_flags=common.COMPUTER_STATUS_FLAGS_THERMAL_THROTTLE if slowed_by(board) else 0,
    )


class BoardWatch:
    """Looks at the board now and then, until `close`.

    Args:
        clock: of the message's times.
        root: folder in which /sys and /proc are looked for.
        period_s: between two looks.
    """

    def __init__(self, clock: Clock, root: Path = Path("/"), period_s: float = PERIOD_S) -> None:
        self._clock = clock
        self._root = root
        self._period_s = period_s
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
        return onboard_status(board, cpu_percent, gpu_percent, self._clock.now_ns())

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
