"""What a measurement was taken on, what a process costs, and how much of the machine others used (Linux)."""

import os
import platform
from collections.abc import Iterable
from pathlib import Path

from edge.bench.result import Machine

_CPU_NAMES = ("model name", "Model", "Hardware")
_OWN_FIELDS = slice(13, 15)
"""utime and stime in /proc/PID/stat, which counts from 1: fields 14 and 15."""


def describe_machine() -> Machine:
    """Return processor, cores and kernel."""
    return Machine(
        cpu=_cpu_name(),
        cores=os.cpu_count() or 1,
        kernel=platform.release(),
        arch=platform.machine(),
        python=platform.python_version(),
    )


def cpu_seconds(process_id: int) -> float:
    """Return the processor time that the threads of a process have used so far; 0 where it has ended.

    The scheduler's own counters are in ns; a kernel without them leaves ticks of 10 ms.
    """
    try:
        texts = [file.read_text() for file in Path(f"/proc/{process_id}/task").glob("*/schedstat")]
    except OSError:
        texts = []
    if texts:
        return sum(int(text.split()[0]) for text in texts) / 1e9
    return _process_ticks([process_id]) / os.sysconf("SC_CLK_TCK")


def rss_mib(process_id: int) -> float:
    """Return the memory that a process has in use, in MiB; 0 where it has ended."""
    try:
        pages = int(Path(f"/proc/{process_id}/statm").read_text().split()[1])
    except OSError:
        return 0.0
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 2**20, 1)


class NoiseMeter:
    """Measures the share of all cores' time that went to other processes than the given ones."""

    def __init__(self) -> None:
        self._busy = 0.0
        self._all = 0.0
        self._own = 0.0
        self._at: tuple[float, float, float] | None = None

    def start(self, process_ids: Iterable[int]) -> None:
        """Begin an interval; `process_ids` are ours."""
        self._at = (*_machine_ticks(), _process_ticks(process_ids))

    def stop(self, process_ids: Iterable[int]) -> None:
        """End the interval; the processes must still run."""
        if self._at is None:
            return
        busy, total = _machine_ticks()
        own = _process_ticks(process_ids)
        self._busy += busy - self._at[0]
        self._all += total - self._at[1]
        self._own += own - self._at[2]
        self._at = None

    @property
    def other_percent(self) -> float | None:
        """Of all cores' time in the intervals so far; None before the first."""
        return round(max(self._busy - self._own, 0.0) / self._all * 100, 1) if self._all else None


def _machine_ticks() -> tuple[float, float]:
    """Return busy and all ticks of all cores since boot; time stolen by other guests of the host counts as busy."""
    fields = [float(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    idle = fields[3] + fields[4]
    return sum(fields) - idle, sum(fields)


def _process_ticks(process_ids: Iterable[int]) -> float:
    ticks = 0.0
    for process_id in process_ids:
        try:
            text = Path(f"/proc/{process_id}/stat").read_text()
        except OSError:  # it has ended
            continue
        fields = text.rpartition(")")[2].split()
        ticks += sum(float(field) for field in fields[_OWN_FIELDS.start - 2 : _OWN_FIELDS.stop - 2])
    return ticks


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    found = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return next((found[name] for name in _CPU_NAMES if found.get(name)), platform.machine())
