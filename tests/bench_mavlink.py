"""How fast classifications become signed frames on a socket, and what the publisher adds: python tests/bench_mavlink.py

Rates are of processor time, of one thread: an answer of the pipeline is reported, passes the link's outlet, and is
encoded, signed and sent by UDP.
What the publisher adds is measured from outside, with `uav-edge mavlink` as a process: from just before an answer is
handed to its results socket until its frame is here. Prints one JSON object; `sleep_ms_p99` is how late this machine
wakes a sleeper at the same time, which is in the added latency twice.
"""

import gc
import json
import math
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import mavlink_samples as samples
from signatures import KEY, signing

from edge.clock import SystemClock
from edge.mavlink import codec
from edge.mavlink.ground import GroundStation
from edge.mavlink.link import open_link
from edge.mavlink.outlet import Outlet
from edge.mavlink.security import Security
from edge.transport.sockets import BlockingPublisher

ROUNDS = 5
MESSAGES = 20_000
ANSWERS = 1_000
PERIOD_S = 0.01
PATIENCE_S = 60
CONFIG = """
bundle: none.uavb
results: {results}
streams:
  radio: {{modality: iq, endpoint: "ipc:///tmp/unused-radio", rate_hz: 100}}
mavlink: {{links: [{{link: "udpout:127.0.0.1:{port}", key: "{key}"}}], max_rate_hz: 1000}}
"""


def rate(*, is_signed: bool) -> float:
    """Return messages a second of processor time, the median of some rounds."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        security = Security(signing=signing()) if is_signed else Security()
        link = open_link(f"udpout:127.0.0.1:{receiver.getsockname()[1]}", 1, 191, SystemClock(), security)
        outlet = Outlet(link.send, frozenset({"native", "summary"}))
        answer, rates = samples.answer(), []
        for _ in range(ROUNDS):
            began_s = time.process_time()
            for _ in range(MESSAGES):
                report = codec.report_of(answer, model_id=1, now_ns=905_000_000, max_age_ms=300.0, is_replay=False)
                outlet.offer([codec.classification_message(report)], 905_000_000)
            rates.append(MESSAGES / (time.process_time() - began_s))
        link.close()
    return sorted(rates)[ROUNDS // 2]


def added_ms(folder: Path) -> list[float]:
    """Return the latencies that the publisher adds to answers that come every 10 ms, in order of size."""
    key, config = folder / "key", folder / "flight.yaml"
    key.write_bytes(KEY)
    key.chmod(0o600)
    with BlockingPublisher(f"ipc://{folder}/results") as results, GroundStation("udpin:127.0.0.1:0") as ground:
        config.write_text(CONFIG.format(results=results.endpoint, port=ground.port, key=key))
        command = [sys.executable, "-m", "edge.cli", "--quiet", "mavlink", "--config", str(config)]
        with subprocess.Popen(command) as process:
            try:
                if not results.wait_for_listeners(1, PATIENCE_S):
                    raise TimeoutError("uav-edge mavlink does not listen")
                return sorted(_latency_ms(results, ground, number) for number in range(ANSWERS))
            finally:
                process.terminate()
                process.wait(PATIENCE_S)


def _latency_ms(results: BlockingPublisher, ground: GroundStation, number: int) -> float:
    """Return the time from handing over an answer until its frame is here; infinite where it does not come."""
    time.sleep(PERIOD_S)
    sent_s = time.perf_counter()
    results.send(samples.on_wire(samples.answer(sequence=number)))
    while time.perf_counter() - sent_s < 1:
        for item in ground.poll(timeout_ms=100):
            if item.name == "FUSION_CLASSIFICATION" and item.message.sequence == number:
                return (time.perf_counter() - sent_s) * 1000
    return math.inf


def sleep_ms() -> list[float]:
    """Return how late sleeps of 2 ms end, in order of size."""
    late = []
    for _ in range(ANSWERS):
        began_s = time.perf_counter()
        time.sleep(0.002)
        late.append((time.perf_counter() - began_s) * 1000 - 2)
    return sorted(late)


def share(ordered: list[float], part: float) -> float:
    """Return the value that so many do not exceed."""
    return round(ordered[min(int(part * len(ordered)), len(ordered) - 1)], 3)


def main() -> int:
    """Measure, and print."""
    gc.collect()
    gc.freeze()  # else it is our own collections that are measured, 22 ms each
    result: dict[str, Any] = {"plain_per_s": round(rate(is_signed=False)), "signed_per_s": round(rate(is_signed=True))}
    with tempfile.TemporaryDirectory() as folder:
        added = added_ms(Path(folder))
    result |= {"added_ms_p50": share(added, 0.5), "added_ms_p99": share(added, 0.99), "answers": len(added)}
    result |= {"lost": sum(not math.isfinite(value) for value in added), "sleep_ms_p99": share(sleep_ms(), 0.99)}
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
