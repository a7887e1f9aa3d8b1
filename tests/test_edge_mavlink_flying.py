"""The publisher beside an autopilot, over a real link and by the real clock."""

import socket
import threading
import time
from pathlib import Path
from typing import Any

import mavlink_samples as samples
import pytest
from fake_autopilot import MS, FakeAutopilot
from pymavlink.dialects.v20 import common

from edge.clock import SystemClock
from edge.config import load_flight
from edge.mavlink.network.link import Link, open_link
from edge.mavlink.process import run_publisher
from edge.mavlink.wire import codec
from edge.mavlink.wire.codec import Flag
from edge.transport.sockets import BlockingPublisher

PATIENCE_S = 30
LATENCIES_MS = (20, 320)
"""Of answers in turn: from capture to publishing."""
SYNC_US = 25_000
"""That the clocks may be off on a busy machine: far less than the latencies are apart."""
DEPLOYMENT = """
bundle: none.uavb
results: ipc://{folder}/results
streams:
  front: {{modality: image, endpoint: "ipc://{folder}/front", rate_hz: 30}}
mavlink:
  links: ["udpin:127.0.0.1:{port}"]
  camera: {{stream: front, size_px: [640, 480], field_of_view_deg: 60, mount_deg: [0, -45, 0]}}
"""


def live(link: Link, autopilot: FakeAutopilot, now_ns: int) -> list[Any]:
    """Let the autopilot speak and answer; return the answers of the pipeline that it heard."""
    spoken = [autopilot.heartbeat(), autopilot.system_time(now_ns), autopilot.attitude(now_ns)]
    for message in (*spoken, autopilot.position(now_ns)):
        link.send(message)
    link.transport.wait(0.02)
    reports = []
    for item in link.receive():
        if item.name == "TIMESYNC" and item.message.tc1 == 0:
            tc1 = SystemClock().now_ns() + autopilot.boot_ns
            link.send(common.MAVLink_timesync_message(tc1=tc1, ts1=item.message.ts1))
        elif item.name == "FUSION_CLASSIFICATION":
            reports.append(codec.classification_report(item.message))
    return reports


def test_beside_an_autopilot_answers_carry_utc_and_the_place_of_what_was_seen(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    path = tmp_path / "flight.yaml"
    path.write_text(DEPLOYMENT.format(folder=tmp_path, port=port))
    config, clock, stop = load_flight(path), SystemClock(), threading.Event()
    autopilot, reports = FakeAutopilot(), []
    thread = threading.Thread(target=run_publisher, args=(config, stop))
    with BlockingPublisher(config.results) as results:
        thread.start()
        assert results.wait_for_listeners(1, PATIENCE_S)
        link = open_link(f"udpout:127.0.0.1:{port}", 1, 1, clock)
        deadline_s, captured, latest = time.monotonic() + PATIENCE_S, {}, {}
        while time.monotonic() < deadline_s and set(latest) != set(LATENCIES_MS):
            for report in live(link, autopilot, clock.now_ns()):
                reports.append(report)
                if Flag.GEO_VALID in report.flags and Flag.TIME_UNSYNCED not in report.flags:
                    latest[LATENCIES_MS[report.sequence % 2]] = report
            sequence, now_ns = len(captured), clock.now_ns()
            captured[sequence] = now_ns - LATENCIES_MS[sequence % 2] * MS
            frame = samples.modality("image", stream="front", capture_ns=captured[sequence])
            answer = samples.answer(sequence=sequence, capture_ns=captured[sequence], modalities=(frame,))
            results.send(samples.on_wire(answer))
        stop.set()
        thread.join(PATIENCE_S)
        link.close()

    assert Flag.TIME_UNSYNCED in reports[0].flags
    assert set(latest) == set(LATENCIES_MS)
    for latency_ms, report in latest.items():
        utc_us = autopilot.utc_us + (captured[report.sequence] + autopilot.boot_ns) // 1000
        assert report.time_us == pytest.approx(utc_us, abs=SYNC_US), "the time of the capture, however late it is told"
        assert report.latency_us >= latency_ms * 1000
    last = latest[LATENCIES_MS[0]]
    assert last.position is not None
    assert (last.position.latitude_deg - 47.0) * 111_170 == pytest.approx(100.0, abs=1.0)
    assert last.position.altitude_m == pytest.approx(400.0, abs=0.1)
