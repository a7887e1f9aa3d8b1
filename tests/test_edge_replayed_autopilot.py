"""The autopilot of a recorded flight speaks again: its frames, at its own times, by a clock that answers."""

import select
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pymavlink.dialects.v20 import ardupilotmega as dialect
from recorded import START_NS, UTC_OFFSET_NS, iq_message

from edge.cli import main
from edge.clock import SystemClock, VirtualClock
from edge.faults.fault import parse_fault
from edge.faults.injector import inject
from edge.mavlink.logs.pose_frames import PoseFrames
from edge.mavlink.logs.replayed import ReplayedAutopilot
from edge.mavlink.network.link import Link, open_link
from edge.mavlink.place.whereabouts import Whereabouts
from edge.mavlink.ports.transport import TransportCounts
from edge.mavlink.wire import frame_times
from edge.operations.playback import Playback, Program
from edge.recording.reader import Recording, open_recording
from edge.recording.telemetry import RECEIVED, events_with_telemetry
from edge.recording.writer import RecordingWriter
from edge.transport.messages import Kind, Pose
from models.bundle import shipped_bundle

S, MS = 1_000_000_000, 1_000_000
PATIENCE_S = 30.0
BOOT_MS = 70_000


def packed(message: Any, system: int = 1, component: int = 1, *, sequence: int = 7, is_v1: bool = False) -> bytes:
    encoder = dialect.MAVLink(None, srcSystem=system, srcComponent=component)
    encoder.seq = sequence
    return bytes(message.pack(encoder, force_mavlink1=is_v1))


def decoded(frame: bytes) -> Any:
    return dialect.MAVLink(None).decode(bytearray(frame))


def attitude(boot_ms: int) -> Any:
    return dialect.MAVLink_attitude_message(boot_ms, 0.1, 0.2, 0.3, 0.0, 0.0, 0.0)


@pytest.mark.parametrize("is_v1", [True, False])
def test_a_frame_that_is_moved_says_the_same_later(is_v1: bool) -> None:
    frame = packed(attitude(BOOT_MS), 3, 1, is_v1=is_v1)
    moved = frame_times.moved(frame, 5_000_900, 200)
    message = decoded(moved)
    assert (message.time_boot_ms, message.get_seq()) == (BOOT_MS + 5_000, 200)
    assert (message.roll, message.pitch, message.yaw) == pytest.approx((0.1, 0.2, 0.3))
    assert frame_times.sender(moved) == (3, 1)
    assert frame_times.moved(frame, 0, 7) == frame
    assert frame_times.is_whole(moved)


def test_every_time_in_a_frame_is_moved_but_those_that_say_unknown() -> None:
    both = decoded(frame_times.moved(packed(dialect.MAVLink_system_time_message(S, BOOT_MS)), -2_000_000, 0))
    assert (both.time_unix_usec, both.time_boot_ms) == (S - 2_000_000, BOOT_MS - 2_000)
    undated = decoded(frame_times.moved(packed(dialect.MAVLink_system_time_message(0, BOOT_MS)), 1_000_000, 0))
    assert (undated.time_unix_usec, undated.time_boot_ms) == (0, BOOT_MS + 1_000)


def test_zeros_that_were_not_sent_become_times_and_times_zeros() -> None:
    """MAVLink 2 leaves out the zeros at a payload's end, and the time of SYSTEM_TIME stands there."""
    short = packed(dialect.MAVLink_system_time_message(1, 1 << 24))
    grown = frame_times.moved(short, 1_000, 0)
    assert decoded(grown).time_boot_ms == (1 << 24) + 1
    assert frame_times.is_whole(grown)
    assert frame_times.moved(grown, -1_000, 7) == short


def test_a_signature_of_then_is_left_out() -> None:
    signer = dialect.MAVLink(None, srcSystem=1, srcComponent=1)
    signer.signing.secret_key, signer.signing.sign_outgoing = b"k" * 32, True
    signer.signing.timestamp, signer.signing.link_id = 1, 0
    frame = bytes(attitude(BOOT_MS).pack(signer))
    assert frame[2] & 1
    moved = frame_times.moved(frame, 0, 0)
    assert len(moved) == len(frame) - 13
    assert decoded(moved).time_boot_ms == BOOT_MS


def test_a_frame_of_an_unknown_message_goes_out_as_it_came() -> None:
    frame = b"\xfd\x01\x00\x00\x07\x01\x01\xff\xff\xfe\x00ab"
    assert frame_times.is_whole(frame)
    assert frame_times.moved(frame, 1_000_000, 9) == frame
    assert frame_times.since_boot_us(frame) is None


@pytest.mark.parametrize("damaged", [b"", b"\xfe", b"\xfd" * 12, packed(attitude(1))[:-1], packed(attitude(1)) + b"x"])
def test_what_is_no_frame_is_known(damaged: bytes) -> None:
    assert not frame_times.is_whole(damaged)


def _recorded(path: Path, frames: list[tuple[int, bytes]]) -> Recording:
    """Record frames, each with its arrival in ms after the start, and a window every 100 ms."""
    with RecordingWriter(path, utc_offset_ns=UTC_OFFSET_NS) as writer:
        events = [(START_NS + at_ms * MS, frame) for at_ms, frame in frames]
        for n in range(10):
            events.append((START_NS + n * 100 * MS, b""))
        for n, (at_ns, frame) in enumerate(sorted(events, key=lambda event: event[0])):
            if frame:
                writer.write_mavlink(frame, at_ns)
            else:
                writer.write_sensor("radio", *iq_message(n, at_ns), at_ns)
    return open_recording(path)


def test_frames_go_out_when_they_were_sent_and_not_when_a_burst_arrived(tmp_path: Path) -> None:
    sent_ms = [*range(0, 400, 100), *range(400, 900, 100)]
    arrivals_ms = [0, 100, 200, 300, *[800] * 5]
    frames = [(at, packed(attitude(BOOT_MS + sent))) for at, sent in zip(arrivals_ms, sent_ms, strict=True)]
    recording = _recorded(tmp_path / "flight.mcap", frames)
    events = list(events_with_telemetry(recording))
    assert [event.log_ns for event in events] == sorted(event.log_ns for event in events)
    times_ms = [(event.log_ns - START_NS) / MS for event in events if event.kind == Kind.MAVLINK]
    assert times_ms == pytest.approx(sent_ms, abs=1.0)
    assert len(events) == recording.event_count


def test_a_clock_that_was_set_anew_is_followed(tmp_path: Path) -> None:
    frames = [(0, packed(attitude(BOOT_MS))), (500, packed(attitude(10))), (600, packed(attitude(110)))]
    recording = _recorded(tmp_path / "flight.mcap", frames)
    times_ms = [
        (event.log_ns - START_NS) / MS for event in events_with_telemetry(recording) if event.stream == RECEIVED
    ]
    assert times_ms == pytest.approx([0, 500, 600], abs=1.0)


def test_only_the_vehicle_speaks_again(tmp_path: Path) -> None:
    heartbeat = dialect.MAVLink_heartbeat_message(dialect.MAV_TYPE_GCS, 8, 0, 0, 4, 3)
    frames = [
        (0, packed(heartbeat, 255, 190)),
        (1, packed(attitude(BOOT_MS), 3, 1)),
        (2, packed(dialect.MAVLink_timesync_message(0, 5), 3, 1)),
        (3, packed(attitude(BOOT_MS), 4, 1)),
        (4, packed(attitude(5), 3, 154)),
        (5, packed(attitude(BOOT_MS + 4), 3, 1)[:-1] + b"\0"),
    ]
    events = events_with_telemetry(_recorded(tmp_path / "flight.mcap", frames))
    said = [frame_times.sender(event.payload) for event in events if event.stream == RECEIVED]
    assert said == [(3, 1), (3, 154)]


def test_a_lost_link_silences_the_autopilot_too(tmp_path: Path) -> None:
    frames = [(at, packed(attitude(BOOT_MS + at))) for at in range(0, 900, 100)]
    events = events_with_telemetry(_recorded(tmp_path / "flight.mcap", frames))
    left = inject(events, (parse_fault("link:loss@0.25s+0.3s"),), 0, START_NS)
    times_ms = [round((event.log_ns - START_NS) / MS) for event in left if event.kind == Kind.MAVLINK]
    assert times_ms == [0, 100, 200, 600, 700, 800]


POSE = Pose(
    capture_ns=START_NS,
    latitude_deg=47.1,
    longitude_deg=8.2,
    altitude_m=500.0,
    roll_rad=0.1,
    pitch_rad=0.2,
    yaw_rad=1.5,
)


def test_poses_become_what_an_autopilot_would_have_sent() -> None:
    made = PoseFrames(START_NS, UTC_OFFSET_NS)
    beat, clock, turn, place = [decoded(frame) for frame in made.frames(POSE)]
    assert beat.autopilot != dialect.MAV_AUTOPILOT_INVALID
    assert (clock.time_unix_usec, clock.time_boot_ms) == ((START_NS + UTC_OFFSET_NS) // 1000, 60_000)
    assert (turn.roll, turn.pitch, turn.yaw) == pytest.approx((0.1, 0.2, 1.5))
    assert (place.lat, place.lon, place.alt, place.relative_alt) == (471_000_000, 82_000_000, 500_000, 0)
    later = Pose(capture_ns=START_NS + MS, latitude_deg=47.1, longitude_deg=8.2, altitude_m=520.0)
    assert [decoded(frame).get_type() for frame in made.frames(later)] == ["ATTITUDE", "GLOBAL_POSITION_INT"]
    assert decoded(made.frames(later)[-1]).relative_alt == 20_000
    nowhere = Pose(capture_ns=START_NS, latitude_deg=float("inf"), longitude_deg=0.0, altitude_m=0.0)
    assert made.frames(nowhere) == []


class Vehicle:
    """What hears the autopilot: a link of ours, and what knows times and places."""

    def __init__(self) -> None:
        self.clock = SystemClock()
        self.link = open_link("udpin:127.0.0.1:0", 1, 191, self.clock)
        self.whereabouts = Whereabouts(1)
        self.heard: list[Any] = []

    @property
    def endpoint(self) -> str:
        return f"udpout:127.0.0.1:{self.link.transport.port}"

    def listen(self) -> None:
        self.link.transport.wait(0.01)
        now_ns = self.clock.now_ns()
        items = self.link.receive()
        self.heard += items
        self.whereabouts.on_received(0, items, now_ns)
        for _, message in self.whereabouts.autopilots.take(self.clock.now_ns()):
            self.link.send(message)

    def listen_until(self, is_wanted: Any) -> None:
        deadline_s = time.monotonic() + PATIENCE_S
        while not is_wanted():
            assert time.monotonic() < deadline_s, self.heard[-3:]
            self.listen()


@pytest.fixture
def vehicle() -> Iterator[Vehicle]:
    opened = Vehicle()
    yield opened
    opened.link.close()


def test_frames_carry_a_clock_that_goes_on_at_our_pace_whatever_the_rate(vehicle: Vehicle) -> None:
    clock = VirtualClock(9 * S)
    with ReplayedAutopilot(vehicle.endpoint, clock).answering() as autopilot:
        for n in range(3):  # at four times real time: recorded 400 ms apart, due 100 ms apart
            autopilot.send(packed(attitude(BOOT_MS + n * 400)), 9 * S + n * 100 * MS)
        vehicle.listen_until(lambda: len(vehicle.heard) == 3)
    assert [item.message.time_boot_ms for item in vehicle.heard] == [BOOT_MS, BOOT_MS + 100, BOOT_MS + 200]
    assert [item.sequence for item in vehicle.heard] == [0, 1, 2]


def test_whoever_calls_an_autopilot_that_waits_for_others_hears_it() -> None:
    """`--autopilot udpin:...`: nobody is there before it was heard, and each of them has a stream of its own."""
    clock = SystemClock()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with ReplayedAutopilot(f"udpin:127.0.0.1:{port}", clock).answering() as autopilot:
        callers = [open_link(f"udpout:127.0.0.1:{port}", 255, 190 + n, clock) for n in range(2)]
        deadline_s = time.monotonic() + PATIENCE_S
        for caller in callers:
            heard: list[Any] = []
            while not {item.name for item in heard} >= {"ATTITUDE", "TIMESYNC"}:
                assert time.monotonic() < deadline_s, heard
                caller.send(dialect.MAVLink_heartbeat_message(dialect.MAV_TYPE_GCS, 8, 0, 0, 4, 3))
                caller.send(dialect.MAVLink_timesync_message(0, 5))
                autopilot.send(packed(attitude(BOOT_MS)), clock.now_ns())
                caller.transport.wait(0.05)
                heard += caller.receive()
            assert {item.message.ts1 for item in heard if item.name == "TIMESYNC"} == {5}
            caller.close()


class FragilePort:
    """A port for one thread: notices two in it, and is closed by one under the other that waits."""

    name, is_open = "fragile", True

    def __init__(self) -> None:
        self.counts = TransportCounts()
        self.overlaps = 0
        self.asked = threading.Semaphore(0)
        self.sent: list[bytes] = []
        self._inside = threading.Lock()
        self._question = packed(dialect.MAVLink_timesync_message(0, 5), 255, 190)

    def send(self, frame: bytes) -> None:
        self._use()
        self.sent.append(frame)

    def receive(self) -> list[tuple[str, bytes]]:
        self._use()
        self.asked.release()
        return [("ground", self._question)]

    def wait(self, timeout_s: float) -> None:
        lost = socket.socket()
        lost.close()
        select.select([lost], [], [], timeout_s)

    def welcome(self, peer: str, *, is_proven: bool) -> None:
        self._use()

    def close(self) -> None:
        self._use()

    def _use(self) -> None:
        if not self._inside.acquire(blocking=False):
            self.overlaps += 1
            return
        try:
            select.select([], [], [], 0.0005)  # long enough for the other thread to come
        finally:
            self._inside.release()


def test_a_port_that_is_lost_while_it_is_listened_to_goes_on_and_serves_one_thread_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    port, clock = FragilePort(), SystemClock()
    monkeypatch.setattr("edge.mavlink.logs.replayed.open_link", lambda *_: Link(port, 1, 1, clock))
    with ReplayedAutopilot("fragile", clock).answering() as autopilot:
        for _ in range(50):
            autopilot.send(packed(attitude(BOOT_MS)), clock.now_ns())
        for _ in range(20):
            assert port.asked.acquire(timeout=PATIENCE_S)
    assert port.overlaps == 0
    assert {decoded(frame).get_type() for frame in port.sent} == {"ATTITUDE", "TIMESYNC"}


def test_times_and_places_of_a_replay_are_known_from_the_link_alone(vehicle: Vehicle, tmp_path: Path) -> None:
    """The poses are replayed as telemetry, again and again, until clock, date and place are known by it."""
    with RecordingWriter(tmp_path / "flight.mcap", utc_offset_ns=UTC_OFFSET_NS) as writer:
        for n in range(20):
            at_ns = START_NS + n * 50 * MS
            writer.write_sensor("radio", *iq_message(n, at_ns), at_ns)
            pose = Pose(capture_ns=at_ns, latitude_deg=47.0, longitude_deg=8.0, altitude_m=500.0, yaw_rad=1.0)
            writer.write_message(pose, at_ns + MS)
    program = Program(
        recording=open_recording(tmp_path / "flight.mcap"), endpoints={}, laps=None, autopilot=vehicle.endpoint
    )

    def knows_it() -> bool:
        playback.poll()
        now_ns = vehicle.clock.now_ns()
        ours = vehicle.whereabouts.autopilots.ours(now_ns)
        view = ours.track.at(now_ns - 50 * MS, has_gimbal=False) if ours is not None else None
        return view is not None and ours.time_of(now_ns, now_ns) is not None

    with Playback(program, lambda _: None) as playback:
        playback.begin()
        vehicle.listen_until(knows_it)
        now_ns, begin_ns = vehicle.clock.now_ns(), playback.begin_ns
        ours = vehicle.whereabouts.autopilots.ours(now_ns)
        place = ours.track.places.at(now_ns - 50 * MS).value
        told = vehicle.whereabouts.time_of(now_ns, now_ns)
    assert place[:3] == pytest.approx((47.0, 8.0, 500.0), abs=1e-3)
    recorded_utc_us = (START_NS + UTC_OFFSET_NS + now_ns - begin_ns) / 1000
    assert told.is_synced
    assert told.time_us == pytest.approx(recorded_utc_us, abs=500_000)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--autopilot", "udp:nowhere"), "udpout:HOST:PORT"),
        (("--autopilot", "udpout:127.0.0.1:14551", "--exact"), "--autopilot go with live replay"),
        (("--autopilot", "udpout:127.0.0.1:14551", "--rate", "max"), "give a --rate"),
        (("--autopilot", "udpout:127.0.0.1:14551"), "neither MAVLink nor poses in it"),
    ],
)
def test_an_autopilot_that_cannot_speak_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture, arguments: tuple[str, ...], text: str
) -> None:
    frames = [(0, packed(attitude(BOOT_MS)))] if "--rate" in arguments else []
    _recorded(tmp_path / "flight.mcap", frames)
    assert main(["replay", str(tmp_path / "flight.mcap"), "--bundle", str(shipped_bundle()), *arguments]) == 2
    assert text in capsys.readouterr().err
