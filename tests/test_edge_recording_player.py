"""Live replay over real sockets."""

import itertools
import threading
import time
from pathlib import Path

import pytest
from recorded import PERIOD_NS, START_NS, iq_message

from edge.clock import VirtualClock
from edge.recording.controls import Command
from edge.recording.laps import laps
from edge.recording.pacing import MAX_LATE_NS, PutOff
from edge.recording.player import Player
from edge.recording.reader import Recording, open_recording
from edge.recording.writer import RecordingWriter
from edge.transport.messages import Kind, Pose, Truth, unpack
from edge.transport.sockets import Subscriber
from edge.transport.wire import FLAG_REPLAY, Header, Reason, Stamp, decode_header, decode_message, encode_bytes
from edge.transport.wire import encode_header as encode
from models.errors import ConfigError, LinkError

TRANSPORT_NS = 1_000_000
PATIENCE_MS = 5_000


class Listener:
    """Collects what is published at an endpoint, in a thread, until `count` messages came."""

    def __init__(self, endpoint: str, count: int) -> None:
        self.messages: list[tuple[Header, bytes, int]] = []
        self._subscriber = Subscriber(endpoint)
        self._count = count
        self._thread = threading.Thread(target=self._collect)
        self._thread.start()

    def _collect(self) -> None:
        with self._subscriber:
            while len(self.messages) < self._count:
                parts = self._subscriber.receive(PATIENCE_MS)
                if parts is None:
                    return
                message = decode_message(parts)
                assert not isinstance(message, Reason)
                self.messages.append((message[0], bytes(message[1]), time.monotonic_ns()))

    def join(self) -> list[tuple[Header, bytes, int]]:
        self._thread.join()
        return self.messages


def _flight(path: Path, windows: int, period_ns: int = PERIOD_NS) -> Recording:
    """Record I/Q, every third time with a frame captured 20 ms earlier, a pose and the truth."""
    with RecordingWriter(path) as writer:
        for n in range(windows):
            capture_ns = START_NS + n * period_ns
            log_ns = capture_ns + TRANSPORT_NS
            writer.write_sensor("radio", *iq_message(n, capture_ns), log_ns)
            if n % 3:
                continue
            stamp = Stamp(2, 0xFFFFFFFF, n // 3, capture_ns - 20_000_000, capture_ns - 20_000_000)
            header_bytes, payload = encode_bytes(Kind.ENCODED_FRAME, stamp, b"\x89PNG" + bytes(1000), with_crc=True)
            header = decode_header(header_bytes)
            assert not isinstance(header, Reason)
            writer.write_sensor("camera", header, header_bytes, payload, log_ns)
            writer.write_message(
                Pose(capture_ns=capture_ns, latitude_deg=1.0, longitude_deg=2.0, altitude_m=3.0), log_ns
            )
            writer.write_message(Truth(capture_ns=capture_ns, class_id=n % 7, label="site"), log_ns)
    return open_recording(path)


def test_header_survives_being_decoded_and_encoded() -> None:
    _, header_bytes, _ = iq_message(5, START_NS)
    header = decode_header(header_bytes)
    assert not isinstance(header, Reason)
    assert encode(header) == header_bytes


def test_nothing_is_lost_or_reordered_as_fast_as_possible(tmp_path: Path) -> None:
    recording = _flight(tmp_path / "flight.mcap", 900)
    endpoints = {name: f"ipc://{tmp_path}/{name}" for name in ("radio", "camera")}
    with Player(recording, endpoints, rate=None) as player:
        radio, camera = Listener(endpoints["radio"], 900), Listener(endpoints["camera"], 300)
        player.wait_for_listeners(5.0)
        played = player.play()
    assert [header.sequence for header, _, _ in radio.join()] == list(range(900))
    assert [header.sequence for header, _, _ in camera.join()] == list(range(300))
    assert played.messages == {"radio": 900, "camera": 300}
    assert played.recorded_ns == 899 * PERIOD_NS
    first, second = (event for event in list(recording.events())[:2])
    assert (radio.messages[0][1], camera.messages[0][1]) == (first.payload, second.payload)


def test_times_are_of_the_present_and_keep_their_distances_scaled(tmp_path: Path) -> None:
    recording = _flight(tmp_path / "flight.mcap", 40)
    endpoints = {name: f"ipc://{tmp_path}/{name}" for name in ("radio", "camera")}
    before_ns = time.monotonic_ns()
    with Player(recording, endpoints, rate=4.0) as player:
        radio, camera = Listener(endpoints["radio"], 40), Listener(endpoints["camera"], 14)
        player.wait_for_listeners(5.0)
        player.play()
    windows = [header for header, _, _ in radio.join()]
    frames = [header for header, _, _ in camera.join()]
    delays_ns = [came_ns - header.send_ns for header, _, came_ns in radio.messages]
    assert all(header.flags & FLAG_REPLAY for header in windows + frames)
    assert windows[0].capture_ns > before_ns
    assert min(delays_ns) >= 0
    early_ns = {header.send_ns - header.capture_ns < TRANSPORT_NS // 4 for header in windows}
    assert early_ns == {False}
    steps = {after.capture_ns - before.capture_ns for before, after in itertools.pairwise(windows)}
    assert min(steps) == PERIOD_NS // 4
    assert windows[0].capture_ns - frames[0].capture_ns == 20_000_000 // 4


def test_fast_replay_pairs_what_was_captured_together(tmp_path: Path) -> None:
    recording = _flight(tmp_path / "flight.mcap", 300)
    endpoints = {name: f"ipc://{tmp_path}/{name}" for name in ("radio", "camera")}
    with Player(recording, endpoints, rate=None) as player:
        radio, camera = Listener(endpoints["radio"], 300), Listener(endpoints["camera"], 100)
        player.wait_for_listeners(5.0)
        player.play()
    captured = {header.sequence: header.capture_ns for header, _, _ in radio.join()}
    for header, _, _ in camera.join()[10:]:
        nearest = min(captured, key=lambda sequence: abs(captured[sequence] - header.capture_ns))
        assert abs(nearest - (header.sequence * 3 - 2)) <= 1


def test_each_playing_begins_a_new_epoch(tmp_path: Path) -> None:
    recording = _flight(tmp_path / "flight.mcap", 3)
    epochs = []
    for n in range(2):
        with Player(recording, {"radio": f"ipc://{tmp_path}/radio{n}"}, rate=None) as player:
            listener = Listener(f"ipc://{tmp_path}/radio{n}", 3)
            player.wait_for_listeners(5.0)
            player.play()
        epochs.append({header.epoch for header, _, _ in listener.join()})
    assert len(epochs[0]) == len(epochs[1]) == 1
    assert epochs[0] != epochs[1]


def test_late_player_puts_off_all_streams_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recording = _flight(tmp_path / "flight.mcap", 60)
    endpoints = {name: f"ipc://{tmp_path}/{name}" for name in ("radio", "camera")}
    clock = VirtualClock(START_NS * 1000)
    monkeypatch.setattr("edge.recording.player.SystemClock", lambda: clock)
    stall_ns = 2 * MAX_LATE_NS

    def stall(message: Truth | Pose) -> None:
        if isinstance(message, Truth):
            clock.advance_to(clock.now_ns() + stall_ns)

    put_offs: list[PutOff] = []
    with Player(recording, endpoints, rate=1000.0, note=stall) as player:
        radio, camera = Listener(endpoints["radio"], 60), Listener(endpoints["camera"], 20)
        player.wait_for_listeners(5.0)
        played = player.play(note_put_off=put_offs.append)
    windows = {header.sequence: header.capture_ns for header, _, _ in radio.join()}
    frames = {header.sequence: header.capture_ns for header, _, _ in camera.join()}
    assert (len(windows), len(frames)) == (60, 20)
    assert {windows[3 * n] - frames[n] for n in frames} == {20_000_000 // 1000}
    assert (windows[1] - windows[0], windows[3] - windows[2]) == (stall_ns, PERIOD_NS // 1000)
    assert played.wall_ns == 20 * stall_ns
    assert played.put_off_ns == pytest.approx(20 * stall_ns, rel=0.01)
    assert put_offs[0] == PutOff(START_NS * 1000, stall_ns - PERIOD_NS // 1000)
    assert sum(put_off.by_ns for put_off in put_offs) == played.put_off_ns
    assert played.achieved_rate == pytest.approx(59 * PERIOD_NS / (20 * stall_ns))
    assert played.spacing is not None
    assert played.spacing.max_ms == pytest.approx(stall_ns / 1e6, rel=0.01)


def test_poses_are_published_and_truth_is_told_with_present_times(tmp_path: Path) -> None:
    recording = _flight(tmp_path / "flight.mcap", 6)
    noted: list[Truth | Pose] = []
    before_ns = time.monotonic_ns()
    with Player(recording, {"pose": f"ipc://{tmp_path}/pose"}, rate=None, note=noted.append) as player:
        listener = Listener(f"ipc://{tmp_path}/pose", 2)
        player.wait_for_listeners(5.0)
        player.play()
    poses = [unpack(payload, Pose) for _, payload, _ in listener.join()]
    assert [type(message) for message in noted] == [Pose, Truth, Pose, Truth]
    assert poses == noted[::2]
    assert poses[0].capture_ns > before_ns - TRANSPORT_NS
    assert [message.class_id for message in noted if isinstance(message, Truth)] == [0, 3]


def test_stop_ends_a_long_flight_at_once(tmp_path: Path) -> None:
    recording = _flight(tmp_path / "flight.mcap", 3, period_ns=3_600_000_000_000)
    with Player(recording, {"radio": f"ipc://{tmp_path}/radio"}, note=lambda _: stop()) as player:

        def stop() -> None:
            player.controls.ask(Command.STOP)

        played = player.play()
    assert (played.messages, played.is_whole) == ({"radio": 1}, False)


def test_stop_ends_a_replay_whose_listener_lives_but_takes_nothing(tmp_path: Path) -> None:
    recording = _flight(tmp_path / "flight.mcap", 90)
    endpoint = f"ipc://{tmp_path}/radio"
    with Player(recording, {"radio": endpoint}, rate=None) as player, Subscriber(endpoint):
        player.wait_for_listeners(5.0)
        asks = threading.Timer(0.3, player.controls.ask, (Command.STOP,))
        asks.start()
        played = player.play(laps(recording, None, Recording.events))
        asks.join()
    assert not played.is_whole


def test_absurd_capture_time_does_not_end_the_replay(tmp_path: Path) -> None:
    with RecordingWriter(tmp_path / "flight.mcap") as writer:
        for n, capture_ns in enumerate([-(1 << 63), (1 << 63) - 1, 0]):
            writer.write_sensor("radio", *iq_message(n, capture_ns), START_NS + n)
    recording = open_recording(tmp_path / "flight.mcap")
    for rate in (None, 0.001, 50.0):
        with Player(recording, {"radio": f"ipc://{tmp_path}/radio"}, rate=rate) as player:
            assert player.play().messages == {"radio": 3}


def test_unknown_stream_is_refused_by_name(tmp_path: Path) -> None:
    recording = _flight(tmp_path / "flight.mcap", 1)
    with pytest.raises(ConfigError, match=r"no stream lidar: it has radio, camera$"):
        Player(recording, {"lidar": f"ipc://{tmp_path}/lidar"})


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan"), float("inf")])
def test_rate_that_goes_nowhere_is_refused(tmp_path: Path, rate: float) -> None:
    recording = _flight(tmp_path / "flight.mcap", 1)
    with pytest.raises(ConfigError, match="expected above 0"):
        Player(recording, {}, rate=rate)


def test_taken_endpoint_frees_the_others(tmp_path: Path) -> None:
    recording = _flight(tmp_path / "flight.mcap", 1)
    radio, camera = f"tcp://127.0.0.1:{_free_port()}", "tcp://127.0.0.1:*"
    with Player(recording, {"radio": radio}), pytest.raises(LinkError, match="cannot bind"):
        Player(recording, {"camera": camera, "radio": radio})


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_nobody_listening_is_told(tmp_path: Path) -> None:
    recording = _flight(tmp_path / "flight.mcap", 1)
    player = Player(recording, {"radio": f"ipc://{tmp_path}/radio"})
    with player, pytest.raises(LinkError, match="nobody listens to stream radio"):
        player.wait_for_listeners(0.01)
