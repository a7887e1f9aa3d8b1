"""A flight whose ground station is away half of the time: python tests/soak_mavlink.py 600 30

Takes how long it lasts, and how long the ground station is there and away, in seconds. `uav-edge mavlink` gets 200
answers a second, all of the time. Prints one JSON object; exit code 1 where memory or disk grew, an old answer was sent
as a new one, the memory of the flight has a gap, or a ground station that is back waited for more than two seconds.
`stall_s_max` is how long this machine held our own ground station up, and
`late` are answers that this machine handed over so late that they were marked STALE_INPUT.
"""

import json
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from mavlink_pipeline import Pipeline

from edge.clock import SystemClock
from edge.mavlink.outgoing import spool
from edge.mavlink.station.ground import GroundStation
from edge.mavlink.wire.codec import Flag
from edge.mavlink.wire.frames import FrameCounts, FrameParser
from edge.transport.sockets import BlockingPublisher

RESULTS_HZ = 200
MAX_BYTES = 4_000_000
"""Of the spool: less than three minutes' answers."""
MAX_GROWTH_KB = 8_192
MAX_AGE_S = 2.5
"""An answer that is marked as fresh was 0.3 s old at most, and waited for two; the rest is the way to the ground."""
MAX_BACK_S = 2.0
PATIENCE_S = 60
CONFIG = """
bundle: none.uavb
results: {results}
streams:
  radio: {{modality: iq, endpoint: "ipc:///tmp/unused-radio", rate_hz: 100}}
mavlink:
  links: [{{link: "tcpout:127.0.0.1:{port}", bearer: [tunnel], budget_bytes_s: 2000, aggregate_s: 0}}]
  spool: {{folder: memory, max_bytes: {most}}}
"""


class _Ground:
    """A ground station that comes and goes, and what it saw."""

    def __init__(self, port: int) -> None:
        self.ages_s: list[float] = []
        self.back_s: list[float] = []
        self.heard = 0
        self.late = 0
        self.stall_s = 0.0
        self._port = port

    def listen(self, seconds: float) -> None:
        """Be there for so long."""
        began_s, is_back = time.monotonic(), False
        with GroundStation(f"tcpin:127.0.0.1:{self._port}") as station:
            looked_s = began_s
            while (now_s := time.monotonic()) - began_s < seconds:
                self.stall_s, looked_s = max(self.stall_s, now_s - looked_s), now_s
                for item in station.poll(timeout_ms=50):
                    if not is_back:
                        is_back = True
                        self.back_s.append(time.monotonic() - began_s)
                    self._look_at(item.name, item.message)
        if not is_back:
            self.back_s.append(float("inf"))

    def _look_at(self, name: str, message: Any) -> None:
        now_ms = SystemClock().now_ns() // 1_000_000
        if name == "FUSION_CLASSIFICATION":
            answers, age_ms = 1, now_ms - message.time_usec // 1000
        elif name == "FUSION_CLASSIFICATION_LITE":
            answers, age_ms = message.count, (now_ms - message.time_boot_ms) % 2**32
        else:
            return
        self.heard += answers
        if message.flags & Flag.STALE_INPUT:
            self.late += answers
        else:
            self.ages_s.append(age_ms / 1000)


class _Watch(threading.Thread):
    """Looks at the process's memory and at its files once a second."""

    def __init__(self, pid: int, folder: Path) -> None:
        super().__init__()
        self.rss_kb: list[int] = []
        self.disk_bytes: list[int] = []
        self.stop = threading.Event()
        self._status = Path(f"/proc/{pid}/status")
        self._folder = folder

    def run(self) -> None:
        while not self.stop.wait(0.25):
            lines = self._status.read_text().splitlines()
            self.rss_kb.append(int(next(line for line in lines if line.startswith("VmRSS")).split()[1]))
            self.disk_bytes.append(_disk_bytes(self._folder))


def _disk_bytes(folder: Path) -> int:
    total = 0
    for path in folder.glob("*.tlog"):
        try:
            total += path.stat().st_size
        except FileNotFoundError:  # the oldest one went just now
            continue
    return total


def remembered(folder: Path) -> list[int]:
    """Return the sequences of the answers in the spool."""
    sequences: list[int] = []
    parser = FrameParser(FrameCounts())
    for path in spool.tlog_files(folder):
        data, at = path.read_bytes(), 0
        while at < len(data):
            end = at + 8 + data[at + 9] + 12
            sequences += [
                message.sequence
                for message in parser.feed(data[at + 8 : end])
                if message.get_type() == "FUSION_CLASSIFICATION"
            ]
            at = end
    return sequences


def soak(folder: Path, seconds: float, period_s: float) -> dict[str, Any]:
    """Fly, and return what came of it."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    config, memory = folder / "flight.yaml", folder / "memory"
    with BlockingPublisher(f"ipc://{folder}/results") as results:
        config.write_text(CONFIG.format(results=results.endpoint, port=port, most=MAX_BYTES))
        command_line = [sys.executable, "-m", "edge.cli", "--quiet", "mavlink", "--config", str(config)]
        with subprocess.Popen(command_line, stderr=subprocess.PIPE, text=True) as process:
            pipeline, ground, watch = Pipeline(results, RESULTS_HZ), _Ground(port), _Watch(process.pid, memory)
            try:
                if not results.wait_for_listeners(1, PATIENCE_S):
                    raise TimeoutError("uav-edge mavlink does not start")
                _fly((pipeline, watch), ground, seconds, period_s)
            finally:
                process.terminate()
                stderr = process.communicate(timeout=PATIENCE_S)[1]
    kept = remembered(memory)
    whole = list(range(kept[0], pipeline.sent)) if kept else []
    quarter = watch.rss_kb[len(watch.rss_kb) // 4]
    result = {
        "seconds": seconds,
        "results": pipeline.sent,
        "heard": ground.heard,
        "late": ground.late,
        "outages": len(ground.back_s),
        "back_s_max": round(max(ground.back_s), 2),
        "stall_s_max": round(ground.stall_s, 2),
        "age_s_max": round(max(ground.ages_s, default=float("inf")), 2),
        "rss_kb": [quarter, watch.rss_kb[-1]],
        "disk_bytes_max": max(watch.disk_bytes),
        "remembered": len(kept),
        "is_memory_whole": bool(kept) and kept == whole,
        "exit_code": process.returncode,
    }
    is_sound = (
        result["back_s_max"] <= MAX_BACK_S
        and result["age_s_max"] <= MAX_AGE_S + ground.stall_s
        and watch.rss_kb[-1] - quarter < MAX_GROWTH_KB
        and result["disk_bytes_max"] <= MAX_BYTES
        and result["is_memory_whole"]
        and process.returncode == 0
        and "Traceback" not in stderr
    )
    return result | {"is_sound": is_sound}


def _fly(threads: tuple[Pipeline, _Watch], ground: _Ground, seconds: float, period_s: float) -> None:
    for thread in threads:
        thread.start()
    end_s = time.monotonic() + seconds
    try:
        while time.monotonic() < end_s:
            time.sleep(period_s)
            ground.listen(period_s)
    finally:
        for thread in threads:
            thread.stop.set()
            thread.join()
    time.sleep(0.5)  # what is on its way to the process


def main() -> int:
    """Fly, and print."""
    with tempfile.TemporaryDirectory() as folder:
        result = soak(Path(folder), float(sys.argv[1]), float(sys.argv[2]))
    print(json.dumps(result))
    return 0 if result["is_sound"] else 1


if __name__ == "__main__":
    sys.exit(main())
