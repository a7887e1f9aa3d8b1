"""How fast classifications become signed frames on a socket, and what the publisher adds: python tests/bench_mavlink.py

Rates are of processor time, of one thread: an answer of the pipeline is reported, passes the link's outlet, and is
encoded, signed and sent by UDP.
How late frames come is measured from outside, with `uav-edge mavlink` as a process: from just before an answer is
handed to its results socket until the datagram with its frame is here. A relay beside it, which passes on the numbers
of answers and no more, takes turns with it: `through_ms` is all that passes, `relay_ms` what two sockets and the waking
of a process cost, and the publisher adds the difference, percentile by percentile. Prints one JSON object;
`sleep_ms_p99` is how late this machine wakes a sleeper at the same time.
"""

import contextlib
import gc
import json
import math
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mavlink_samples as samples
from signatures import KEY, signing

from edge.clock import SystemClock
from edge.mavlink.network.link import open_link
from edge.mavlink.outgoing.outlet import Outlet
from edge.mavlink.trust.security import Security
from edge.mavlink.wire import codec
from edge.transport.messages import Kind, pack
from edge.transport.sockets import BlockingPublisher, Subscriber
from edge.transport.wire import Stamp, decode_header, encode_bytes

ROUNDS = 5
MESSAGES = 20_000
ANSWERS = 1_000
PERIOD_S = 0.01
PATIENCE_S = 60
CLASSIFICATION = 61200
Carries = Callable[[bytes, int], bool]
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


def latencies_ms(folder: Path) -> tuple[list[float], list[float]]:
    """Return how late answers that come every 10 ms arrive through the publisher, and the relay, in order of size."""
    key, config = folder / "key", folder / "flight.yaml"
    key.write_bytes(KEY)
    key.chmod(0o600)
    with (
        BlockingPublisher(f"ipc://{folder}/results") as results,
        BlockingPublisher(f"ipc://{folder}/relayed") as relayed,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ground,
    ):
        ground.bind(("127.0.0.1", 0))
        ground.settimeout(1)
        port = ground.getsockname()[1]
        config.write_text(CONFIG.format(results=results.endpoint, port=port, key=key))
        publisher = [sys.executable, "-m", "edge.cli", "--quiet", "mavlink", "--config", str(config)]
        relay = [sys.executable, __file__, "--relay", relayed.endpoint, str(port)]
        with subprocess.Popen(publisher) as one, subprocess.Popen(relay) as other:
            try:
                if not (results.wait_for_listeners(1, PATIENCE_S) and relayed.wait_for_listeners(1, PATIENCE_S)):
                    raise TimeoutError("uav-edge mavlink, or the relay, does not listen")
                turns = [
                    (_latency_ms(results, ground, _is_frame, number), _latency_ms(relayed, ground, _is_number, number))
                    for number in range(ANSWERS)
                ]
            finally:
                for process in (one, other):
                    process.terminate()
                    process.wait(PATIENCE_S)
    through, floor = zip(*turns, strict=True)
    return sorted(through), sorted(floor)


def _latency_ms(results: BlockingPublisher, ground: socket.socket, carries: Carries, number: int) -> float:
    """Return the time from handing over an answer until a datagram carries its number; infinite where none does."""
    time.sleep(PERIOD_S)
    parts = encode_bytes(Kind.CLASSIFICATION, Stamp(0, 1, number, 0, 0), pack(samples.answer(sequence=number)))
    sent_s = now_s = time.perf_counter()
    results.send(parts)
    while now_s - sent_s < 1:
        with contextlib.suppress(TimeoutError):
            datagram = ground.recv(2048)
            if carries(datagram, number):
                return (time.perf_counter() - sent_s) * 1000
        now_s = time.perf_counter()
    return math.inf


def _is_frame(datagram: bytes, number: int) -> bool:
    """Whether this is the frame of an answer; its number stands behind the frame's head and the time."""
    is_classification = datagram[:1] == b"\xfd" and int.from_bytes(datagram[7:10], "little") == CLASSIFICATION
    return is_classification and int.from_bytes(datagram[18:22], "little") == number


def _is_number(datagram: bytes, number: int) -> bool:
    return len(datagram) == 4 and int.from_bytes(datagram, "little") == number


def relay(endpoint: str, port: int) -> None:
    """Pass on the number of each answer, as it is in its header, and nothing else."""
    with Subscriber(endpoint) as answers, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        out.connect(("127.0.0.1", port))
        while True:
            if (parts := answers.receive(1_000)) is not None:
                out.send(decode_header(parts[0]).sequence.to_bytes(4, "little"))


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
        through, floor = latencies_ms(Path(folder))
    for name, part in (("p50", 0.5), ("p99", 0.99)):
        result |= {f"through_ms_{name}": share(through, part), f"relay_ms_{name}": share(floor, part)}
        result[f"added_ms_{name}"] = round(share(through, part) - share(floor, part), 3)
    result |= {"answers": len(through), "lost": sum(not math.isfinite(value) for value in through)}
    result["sleep_ms_p99"] = share(sleep_ms(), 0.99)
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--relay"]:
        relay(sys.argv[2], int(sys.argv[3]))
    sys.exit(main())
