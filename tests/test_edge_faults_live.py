"""Faults of live flights: the same injectors, at the sockets of real processes, told everywhere and judged."""

import argparse
import json
import os
import resource
import signal
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
import pytest
from faulty_flights import BEGIN_NS, events, two_sensors

from edge.cli import main
from edge.clock import SystemClock, VirtualClock
from edge.commands.source import publisher_of
from edge.config import FlightConfig, MavlinkConfig, StreamConfig, SyntheticSource
from edge.faults.deployment import check_deployment
from edge.faults.fault import STREAM_KINDS, parse_fault
from edge.faults.full_disk import FullDisk
from edge.faults.injector import FaultPlan, inject
from edge.faults.lost_link import LostLink
from edge.faults.orders import LOOK_NS, Orders, write_orders
from edge.faults.sending import FaultyPublisher
from edge.mavlink.ports.transport import TransportCounts
from edge.operations.faulty_run import FaultyRun
from edge.operations.observer import Observer
from edge.operations.supervisor import PIPELINE, Supervisor
from edge.recording.injected import injected_into
from edge.recording.reader import open_recording
from edge.sources.stream import StreamSender
from edge.transport.inbox import open_inbox, payload_view
from edge.transport.messages import Injected
from edge.transport.ring import Loan
from edge.transport.sockets import Publisher, Subscriber
from edge.transport.wire import encode_header
from models.bundle import shipped_bundle
from models.errors import ConfigError, LinkError

S = 1_000_000_000
PATIENCE_S = 20.0
QUIET_MS = 200
FRAME_PX = (160, 160, 3)
"""More than what goes through a socket."""
FLIGHT = """
bundle: {bundle}
results: ipc://{folder}/results
streams:
  radio: {{modality: iq, endpoint: "ipc://{folder}/radio", rate_hz: 20}}
  camera: {{modality: image, endpoint: "ipc://{folder}/camera", rate_hz: 10}}
sources:
  - {{kind: synthetic, stream: radio, sensor: radio}}
  - {{kind: synthetic, stream: camera, sensor: camera}}
recording: {{directory: recordings, min_free_bytes: 0}}
"""


def orders(folder: Path, *faults: str, begin_ns: int = BEGIN_NS, clock=None) -> Orders:
    path = folder / "faults.json"
    write_orders(path, Injected(faults=faults, seed=5, begin_ns=begin_ns))
    return Orders(path, clock)


def taken(subscriber: Subscriber, count: int) -> list[tuple[bytes, bytes]]:
    """Return so many messages, and any more that come."""
    found = []
    while (parts := subscriber.receive(QUIET_MS if len(found) >= count else round(PATIENCE_S * 1000))) is not None:
        found.append(tuple(map(bytes, parts)))
    return found


SENSED = [event for event in events(two_sensors(), 2.0) if event.stream == "radio"]


@pytest.mark.parametrize("kind", [*(f"radio:{kind}" for kind in STREAM_KINDS), "clock:jump", "camera:off"])
def test_a_source_sends_what_the_same_fault_makes_of_a_replay(tmp_path, kind):
    fault, clock, endpoint = f"{kind}@0.5s+1s", VirtualClock(), f"ipc://{tmp_path}/radio"
    expected = list(inject(iter(SENSED), [parse_fault(fault)], 5, BEGIN_NS))
    told = orders(tmp_path, fault, clock=clock)
    publisher = FaultyPublisher(endpoint, "radio", told, high_water_mark=1000, clock=clock)
    with publisher, Subscriber(endpoint, high_water_mark=1000) as subscriber:
        assert publisher.wait_for_listeners(1, PATIENCE_S)
        for event in SENSED:
            clock.advance_to(event.log_ns)
            publisher.send((encode_header(event.header), event.payload))
        assert taken(subscriber, len(expected)) == [(encode_header(e.header), e.payload) for e in expected]


@pytest.mark.parametrize(
    ("fault", "is_told"), [("radio:slow@1s", True), ("clock:jump@1s", True), ("camera:off@1s", False)]
)
def test_a_source_that_no_fault_is_named_for_has_the_socket_of_a_real_flight(tmp_path, fault, is_told):
    path = tmp_path / "faults.json"
    write_orders(path, Injected(faults=(fault,)))
    made = publisher_of(argparse.Namespace(stream="radio", faults=path))
    assert (made is not Publisher) == is_told
    assert publisher_of(argparse.Namespace(stream="radio", faults=None)) is Publisher


def test_what_is_still_held_when_a_source_ends_is_sent(tmp_path):
    clock, endpoint = VirtualClock(), f"ipc://{tmp_path}/radio"
    publisher = FaultyPublisher(endpoint, "radio", orders(tmp_path, "radio:delayed@1s", clock=clock), clock=clock)
    with Subscriber(endpoint) as subscriber:
        assert publisher.wait_for_listeners(1, PATIENCE_S)
        clock.advance_to(BEGIN_NS + 2 * S)
        parts = encode_header(SENSED[0].header), SENSED[0].payload
        publisher.send(parts)
        publisher.close(linger_ms=1000)
        assert taken(subscriber, 1) == [parts]


def test_nothing_befalls_a_source_before_the_flight_has_begun(tmp_path):
    clock, endpoint = VirtualClock(BEGIN_NS), f"ipc://{tmp_path}/radio"
    told = orders(tmp_path, "radio:off@0s", begin_ns=0, clock=clock)
    parts = encode_header(SENSED[0].header), SENSED[0].payload
    with (
        FaultyPublisher(endpoint, "radio", told, clock=clock) as publisher,
        Subscriber(endpoint) as subscriber,
    ):
        assert publisher.wait_for_listeners(1, PATIENCE_S)
        publisher.send(parts)
        write_orders(tmp_path / "faults.json", Injected(faults=("radio:off@0s",), begin_ns=BEGIN_NS))
        publisher.send(parts)  # nobody has looked yet
        clock.advance_to(BEGIN_NS + LOOK_NS)
        publisher.send(parts)
        assert taken(subscriber, 2) == [parts] * 2


def test_frames_in_shared_memory_suffer_too_and_the_others_stay_there(tmp_path, caplog):
    clock = VirtualClock(BEGIN_NS)
    stream = StreamConfig(modality="image", endpoint=f"ipc://{tmp_path}/camera", rate_hz=30.0, transport="shm")
    faulty = partial(FaultyPublisher, stream="camera", orders=orders(tmp_path, "camera:stuck@1s+1s", clock=clock))
    sender = StreamSender(
        stream.endpoint,
        1,
        clock=clock,
        publisher=partial(faulty, clock=clock),
        max_message_bytes=1 << 20,
        ring_slots=8,
    )
    found = []
    with open_inbox(stream) as inbox:
        assert sender.wait_for_listeners(1, PATIENCE_S)
        for n in range(6):
            clock.advance_to(BEGIN_NS + n * S // 2)
            frame = sender.blank(FRAME_PX, np.uint8)
            frame[:] = n
            sender.send_frame(frame, clock.now_ns())
            header, payload = inbox.receive(round(PATIENCE_S * 1000))
            found.append((header.sequence, payload_view(payload)[0], isinstance(payload, Loan)))
        sender.close()
    assert found == [(0, 0, True), (1, 1, True), (2, 2, False), (3, 2, False), (4, 4, True), (5, 5, True)]
    assert "FAULT INJECTED into camera: camera:stuck@1s+1s" in caplog.text
    assert "is over" in caplog.text


def test_a_disk_is_full_for_as_long_as_its_fault_lasts(tmp_path, monkeypatch):
    """The limit is the kernel's; that it stops a recorder is seen in a whole flight."""
    limits, has_room = [], threading.Event()

    def note(which: int, limit: tuple[int, int]) -> None:
        limits.append(limit[0])
        if limit[0]:
            has_room.set()

    monkeypatch.setattr(resource, "setrlimit", note)
    monkeypatch.setattr("edge.faults.full_disk._STREAMS", ())
    begin_ns = SystemClock().now_ns()
    with FullDisk(orders(tmp_path, "disk:full@0s+0.3s", begin_ns=begin_ns)):
        assert has_room.wait(PATIENCE_S)
    assert limits == [0, resource.getrlimit(resource.RLIMIT_FSIZE)[0]]
    with FullDisk(orders(tmp_path, "disk:full@0s", begin_ns=begin_ns)):
        deadline_s = time.monotonic() + PATIENCE_S
        while len(limits) < 3 and time.monotonic() < deadline_s:
            has_room.wait(0.01)
    assert limits[2:] == [0, limits[1]]


class Port:
    """A port that remembers, and that always has something to hear."""

    def __init__(self) -> None:
        self.counts, self.sent = TransportCounts(), []
        self.name, self.is_open, self.calls = "udpout:127.0.0.1:14550", True, []

    def send(self, frame: bytes) -> None:
        self.sent.append(frame)
        self.counts.frames_sent += 1

    def receive(self) -> list[tuple[str, bytes]]:
        return [("peer", b"heard")]

    def wait(self, timeout_s: float) -> None:
        self.calls.append(timeout_s)

    def reopen(self) -> None:
        self.calls.append("reopen")

    def close(self) -> None:
        self.calls.append("close")


def test_a_lost_link_carries_nothing_in_either_direction_and_then_again(tmp_path):
    clock, port = VirtualClock(BEGIN_NS), Port()
    link = LostLink(port, orders(tmp_path, "link:loss@1s+2s", clock=clock))
    heard = []
    for second in range(5):
        clock.advance_to(BEGIN_NS + second * S)
        link.send(bytes([second]))
        heard.append(len(link.receive()))
    assert port.sent == [b"\0", b"\3", b"\4"]
    assert heard == [1, 0, 0, 1, 1]
    assert link.counts.frames_dropped == 2


def test_a_link_that_is_lost_is_otherwise_the_port_itself(tmp_path):
    port = Port()
    link = LostLink(port, orders(tmp_path))
    link.wait(0.5)
    link.reopen()
    link.close()
    link.counts = TransportCounts(refused=7)
    assert port.calls == [0.5, "reopen", "close"]
    assert (link.name, link.is_open, port.counts.refused) == (port.name, True, 7)


@pytest.mark.parametrize("text", ["nothing", "[1]", '{"faults": ["camera:melted"]}'])
def test_orders_that_are_none_are_refused(tmp_path, text):
    path = tmp_path / "faults.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"fault"):
        Orders(path)
    with pytest.raises(ConfigError, match="expected the faults of a flight"):
        Orders(tmp_path / "absent.json")


def deployment(**changes) -> FlightConfig:
    streams = {
        name: StreamConfig(modality=modality, endpoint=f"ipc:///tmp/none/{name}", rate_hz=10.0)
        for name, modality in (("radio", "iq"), ("camera", "image"))
    }
    source = SyntheticSource(stream="radio", sensor="radio")
    config = FlightConfig(bundle="none.uavb", streams=streams, results="ipc:///tmp/none/results", sources=(source,))
    return msgspec.structs.replace(config, **changes)


@pytest.mark.parametrize(
    ("fault", "changes", "said"),
    [
        ("camera:off@1s", {}, "expected a source of it under sources"),
        ("sonar:off@1s", {}, "STREAM being one of radio"),
        ("radio:melted@1s", {}, "STREAM being one of radio"),
        ("disk:full@1s", {}, "expected recording in the deployment"),
        ("link:loss@1s", {}, "expected mavlink in the deployment"),
        ("radio:off@1s", {"mavlink": MavlinkConfig(links=("serial:/dev/ttyS1:57600",))}, "may lead to an autopilot"),
    ],
)
def test_a_fault_that_cannot_befall_a_deployment_is_refused(fault, changes, said):
    with pytest.raises(ConfigError, match=said):
        check_deployment([parse_fault(fault)], deployment(**changes), is_vehicle_safe=False)


@pytest.fixture
def _own_signals() -> Iterator[None]:
    """Give the test runner its signal handlers back, which a command run in this process replaces."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def write_flight(folder: Path, text: str = FLIGHT) -> Path:
    path = folder / "flight.yaml"
    path.write_text(text.format(folder=folder, bundle=shipped_bundle()))
    return path


@pytest.mark.slow
@pytest.mark.usefixtures("_own_signals")
def test_a_flight_with_faults_says_so_everywhere_and_is_judged(tmp_path, capsys, caplog):
    """Whether a busy machine keeps every promise is its own affair; that it is judged, and told, is ours."""
    config = write_flight(tmp_path, FLIGHT + 'mavlink: {{links: ["udpout:127.0.0.1:14598"]}}\n')
    faults = ("camera:garbage@0.5s+1s", "disk:full@2s+1.5s", "process:kill@1.8s", "link:loss@2s+1s")
    options = [word for fault in faults for word in ("--fault", fault)]
    code = main(["run", "--config", str(config), "--seconds", "5", "--json", *options])
    out = capsys.readouterr().out
    summary = json.loads(out.splitlines()[-1])
    assert summary["injected"] == list(faults)
    assert f"faults were injected into this flight: {', '.join(faults)}" in out
    assert "THIS IS A TEST" in caplog.text
    assert "killed as the fault says" in caplog.text
    assert code == int(any(found["verdict"] == "violated" for found in summary["promises"].values()))
    verdicts = {name: found["verdict"] for name, found in summary["promises"].items()}
    pauses = summary["promises"]["I3"]
    assert pauses["judged"] > 0
    assert all(violation["text"].startswith("no ") for violation in pauses["first"])  # it may restart slowly
    assert verdicts == {
        **dict.fromkeys(("I1", "I2", "I6"), "held"), **dict.fromkeys(("I4", "I5", "I7"), "not judged"),
        "I3": pauses["verdict"],
    }  # fmt: skip
    (path,) = (tmp_path / "recordings").glob("*.mcap")
    recording = open_recording(path)
    injected = injected_into([recording])
    assert injected.faults == faults
    assert recording.start_ns < injected.begin_ns < recording.start_ns + recording.duration_ns
    assert recording.metadata["injected_faults"] == " ".join(faults)
    assert recording.damage.is_damaged  # the disk was full
    broken = [event for event in recording.events(["camera"]) if event.header.payload_bytes != len(event.payload)]
    assert broken


@pytest.mark.slow
@pytest.mark.usefixtures("_own_signals")
def test_a_pipeline_that_dies_although_no_fault_kills_it_ends_the_run_with_1(tmp_path, capsys, monkeypatch):
    """Whether it answers again before the end, or not."""
    check, killed = FaultyRun.check, []

    def fatal(self, observer: Observer, supervisor: Supervisor) -> float | None:
        if len(observer.answers) > 10 and not killed:
            killed.append(supervisor.process_ids()[PIPELINE])
            os.kill(killed[0], signal.SIGKILL)
        return check(self, observer, supervisor)

    monkeypatch.setattr(FaultyRun, "check", fatal)
    config = write_flight(tmp_path)
    assert main(["run", "--config", str(config), "--seconds", "5", "--json", "--fault", "camera:slow@60s"]) == 1
    promises = json.loads(capsys.readouterr().out.splitlines()[-1])["promises"]
    assert promises["I3"]["verdict"] == "violated"
    assert promises["I2"]["verdict"] == "held"


def test_a_flight_whose_pipeline_is_never_heard_ends_with_a_reason(tmp_path, monkeypatch):
    monkeypatch.setattr("edge.operations.faulty_run.START_TIMEOUT_S", 0)
    faulty = FaultyRun(deployment(), FaultPlan(faults=(parse_fault("radio:off@1s"),)), tmp_path, None)
    with Observer(f"ipc://{tmp_path}/results") as observer, pytest.raises(LinkError, match="says nothing after 0 s"):
        faulty.check(observer, Supervisor({}))
    assert faulty.judgement(observer) is None


@pytest.mark.usefixtures("_own_signals")
def test_a_flight_whose_faults_faults_cannot_befall_it_does_not_start(tmp_path, capsys):
    serial = FLIGHT + 'mavlink: {{links: ["serial:/dev/ttyS1:57600"]}}\n'
    config = write_flight(tmp_path, serial)
    assert main(["run", "--config", str(config), "--fault", "camera:off@1s"]) == 2
    assert "--faults-reach-vehicle" in capsys.readouterr().err
    assert main(["run", "--config", str(config), "--fault", "sonar:off@1s"]) == 2
    assert not (tmp_path / "recordings").exists()
