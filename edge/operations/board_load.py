"""How busy a board is: the kernel's counters of each core, a Jetson's GPU, its fans, and how full a disk is."""

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from edge.operations.board_text import read_number, read_text

_CORE = re.compile(r"^cpu\d+ ((?:\d{1,20} ?)+)$", re.MULTILINE)
_IDLE = (3, 4)
"""Columns of a core's line in which it did nothing, or waited for a disk."""
_COUNTED = 8
"""Columns; the guests' that follow are among them already."""


class CoreTime(NamedTuple):
    """Of one core since the start, in ticks."""

    busy: int
    total: int


class Disk(NamedTuple):
    """How full a file system is, in MiB."""

    used_mib: int
    total_mib: int


def read_core_times(root: Path = Path("/")) -> tuple[CoreTime, ...]:
    """Return what the kernel counted of each core that is on; nothing where it does not tell."""
    times = []
    for line in _CORE.findall(read_text(root / "proc/stat", 1 << 16) or ""):
        columns = [int(word) for word in line.split()][:_COUNTED]
        idle = sum(columns[n] for n in _IDLE if n < len(columns))
        times.append(CoreTime(sum(columns) - idle, sum(columns)))
    return tuple(times)


def percent_between(before: Sequence[CoreTime], after: Sequence[CoreTime]) -> tuple[int, ...]:
    """Return how busy each core was between two readings, 0 to 100; nothing where a core came or went."""
    if len(before) != len(after):
        return ()
    spans = [(now.busy - was.busy, now.total - was.total) for was, now in zip(before, after, strict=True)]
    return tuple(min(max(round(100 * busy / total), 0), 100) if total > 0 else 0 for busy, total in spans)


def read_gpu_percent(names: Iterable[str], root: Path = Path("/")) -> int | None:
    """Return how busy the first of a Jetson's GPUs is that tells, 0 to 100; None where none does.

    Args:
        names: of their devices, as `board.read_board` finds them.
        root: folder in which /sys is looked for.
    """
    for name in names:
        per_mille = read_number(root / "sys/class/devfreq" / name / "device/load")
        if per_mille is not None and 0 <= per_mille <= 1000:
            return round(per_mille / 10)
    return None


def read_fans_rpm(root: Path = Path("/")) -> tuple[int, ...]:
    """Return how fast each fan turns: a Jetson's tachometer is `rpm`, a PC's fans are `fan1_input` and so on."""
    found = []
    for folder in sorted((root / "sys/class/hwmon").glob("hwmon*")):
        for path in (folder / "rpm", *(folder / f"fan{n}_input" for n in range(1, 5))):
            rpm = read_number(path)
            if rpm is not None and rpm >= 0:
                found.append(rpm)
    return tuple(found)


def read_disk(folder: Path) -> Disk | None:
    """Return how full the disk is that a folder lies on, or will lie on; None where it does not tell."""
    existing = next((one for one in (folder, *folder.absolute().parents) if one.exists()), folder)
    try:
        told = os.statvfs(existing)
    except OSError:
        return None
    total, free = told.f_blocks * told.f_frsize, told.f_bavail * told.f_frsize
    return Disk((total - free) >> 20, total >> 20)
