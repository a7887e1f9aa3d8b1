"""What the pipeline's process costs before the first message comes: time to import, memory, idling."""

import subprocess
import sys

from edge.bench.result import Core
from edge.bench.rig import Rig
from models.errors import DeviceError

IMPORTS = 3
_PROGRAM = """
import time
started_s = time.perf_counter()
import edge.cli, edge.commands.pipeline, edge.config, edge.operations.signals, edge.pipeline.live
import models.bundle, models.signature
print(time.perf_counter() - started_s)
"""
"""Everything that `uav-edge pipeline` imports."""


def import_seconds() -> float:
    """Return how long a fresh interpreter takes to import what `uav-edge pipeline` does: the best of a few.

    Raises:
        DeviceError: it cannot.
    """
    best = float("inf")
    for _ in range(IMPORTS):
        done = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=False)
        if done.returncode:
            raise DeviceError(f"the pipeline's modules do not import: {done.stderr.strip()[-500:]}")
        best = min(best, float(done.stdout))
    return round(best, 4)


def measure_core(rig: Rig, idle_s: float, import_s: float) -> Core:
    """Return the costs of a pipeline that has just started; it idles for `idle_s`."""
    rss = rig.rss_mib
    share, watts = rig.idle(idle_s)
    return Core(
        import_s=import_s,
        rss_mib=rss,
        idle_cpu_percent=round(share * 100, 2),
        idle_watts=round(watts, 3) if watts is not None else None,
    )
