"""Measures what a recorder costs at 33 MB/s: python tests/record_at_load.py 20 [socket or shm]

100 windows of 256 KiB and 30 JPEG of 200 kB a second come through sockets, or where asked the windows through shared
memory, into `uav-edge record`. Told are its share of a core, and what it lost.
"""

import heapq
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from edge.sources.stream import StreamSender

WINDOWS = [np.random.default_rng(n).integers(-128, 127, (131_072, 2), dtype=np.int8) for n in range(4)]
JPEGS = [b"\xff\xd8\xff" + np.random.default_rng(n).bytes(199_995) + b"\xff\xd9" for n in range(4)]
RADIO_HZ, CAMERA_HZ = 100, 30
PATIENCE_S = 20.0
YAML = """
bundle: absent.uavb
streams:
  radio: {{modality: iq, endpoint: "ipc://{folder}/radio", rate_hz: 100, transport: {transport}}}
  camera: {{modality: image, endpoint: "ipc://{folder}/camera", rate_hz: 30}}
results: ipc://{folder}/results
recording: {{directory: .}}
"""


def _due(seconds: float) -> Iterator[tuple[float, str]]:
    """Yield when to send what."""
    plans = [[(n / rate, name) for n in range(round(seconds * rate))] for name, rate in _RATES.items()]
    return heapq.merge(*plans)


_RATES = {"radio": RADIO_HZ, "camera": CAMERA_HZ}


def send(
    folder: Path,
    seconds: float,
    slots: int,
    windows: Sequence[np.ndarray] = WINDOWS,
    jpegs: Sequence[bytes] = JPEGS,
    sample_rate_hz: float = 1e6,
) -> None:
    """Send both streams for a while."""
    radio = StreamSender(f"ipc://{folder}/radio", 1, ring_slots=slots)
    camera = StreamSender(f"ipc://{folder}/camera", 2)
    assert radio.wait_for_listeners(1, PATIENCE_S)
    assert camera.wait_for_listeners(1, PATIENCE_S)
    print("sending", flush=True)
    begin_s = time.monotonic()
    for number, (due_s, name) in enumerate(_due(seconds)):
        time.sleep(max(begin_s + due_s - time.monotonic(), 0))
        if name == "radio":
            radio.send_iq(windows[number % len(windows)], time.monotonic_ns(), sample_rate_hz, 1e9)
        else:
            camera.send_encoded(jpegs[number % len(jpegs)], time.monotonic_ns())
    print("sent", flush=True)
    sys.stdin.read()
    radio.close()
    camera.close()


def cpu_s(pid: int) -> float:
    """Return what a process has used of a processor."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(folder: Path, seconds: float, transport: str) -> dict:
    """Return the recorder's share of a core, and its tallies."""
    (folder / "flight.yaml").write_text(YAML.format(folder=folder, transport=transport))
    slots = "8" if transport == "shm" else "0"
    record = [sys.executable, "-m", "edge.cli", "record", "--config", str(folder / "flight.yaml"), "--json"]
    feed = [sys.executable, __file__, "--send", str(folder), str(seconds), slots]
    with (
        subprocess.Popen(feed, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as feeder,
        subprocess.Popen(record, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as recorder,
    ):
        assert feeder.stdout is not None
        assert feeder.stdout.readline() == "sending\n"
        begin_s, before_s = time.monotonic(), cpu_s(recorder.pid)
        assert feeder.stdout.readline() == "sent\n"
        share = (cpu_s(recorder.pid) - before_s) / (time.monotonic() - begin_s)
        recorder.terminate()
        out, _ = recorder.communicate(timeout=PATIENCE_S)
        feeder.communicate("")
    streams = json.loads(out.splitlines()[-1])["streams"]
    return {"core_share": round(share, 3), "sent": {name: round(seconds * rate) for name, rate in _RATES.items()},
            "streams": {name: streams[name] for name in _RATES}}  # fmt: skip


if __name__ == "__main__":
    if sys.argv[1] == "--send":
        send(Path(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]))
    else:
        with tempfile.TemporaryDirectory() as scratch:
            print(json.dumps(measure(Path(scratch), float(sys.argv[1]), (sys.argv[2:] or ["socket"])[0])))
