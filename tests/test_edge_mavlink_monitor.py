import io
import json
import threading
from typing import Any

import mavlink_samples as samples
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymavlink.dialects.v20 import common
from rich.console import Console

from edge.cli import main
from edge.mavlink.network.link import Link, Received
from edge.mavlink.outgoing import bearers, lite
from edge.mavlink.station.ground import GroundStation
from edge.mavlink.station.monitor import MAX_LABELS, MAX_PEERS, Monitor
from edge.mavlink.wire import codec, dialect, standard
from edge.mavlink.wire.codec import Flag
from edge.mavlink.wire.frames import MESSAGES
from edge.operations import mavlink_view, signals

S = 1_000_000_000
VEHICLE = (1, 191)


def result(**changes: Any) -> Any:
    answer = samples.answer(**changes)
    return codec.classification_message(
        codec.report_of(answer, model_id=1, now_ns=905_000_000, max_age_ms=300.0, is_replay=False)
    )


def status() -> Any:
    return codec.status_message(
        codec.StatusReport(
            time_us=5, model_id=1, frames_processed=200, frames_dropped=10, results_dropped=3, latency_p50_us=50_000,
            latency_p99_us=None, input_rates_hz=(100.0,), output_rate_hz=50.0, state=4, present=3,
        )
    )  # fmt: skip


class Ether:
    """A ground station on a port that hands out what is put into it, and what its monitor makes of that."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.port, self.monitor, self.now_ns = samples.FakeTransport(), Monitor(), 0
        monkeypatch.setattr("edge.mavlink.station.ground.open_link", lambda *args: Link(self.port, 255, 190))
        self._links: dict[tuple[int, int], Link] = {}

    def put(self, *messages: Any, sender: tuple[int, int] = VEHICLE) -> None:
        link = self._links.setdefault(sender, Link(samples.FakeTransport(), *sender))
        for message in messages:
            link.send(message)
        self.port.incoming += [("vehicle", frame) for frame in link.transport.sent]
        link.transport.sent.clear()

    def look(self) -> dict[str, Any]:
        with GroundStation("fake") as station:
            for item in station.poll(timeout_ms=0):
                self.monitor.take(item, self.now_ns)
        return self.monitor.summary(self.now_ns)


@pytest.fixture
def ether(monkeypatch: pytest.MonkeyPatch) -> Ether:
    return Ether(monkeypatch)


def test_each_sender_is_shown_with_what_it_is_and_does(ether: Ether) -> None:
    ether.put(standard.heartbeat(4), status(), result())
    ether.put(common.MAVLink_heartbeat_message(2, 3, 81, 0, 3, 3), sender=(1, 1))
    found = ether.look()

    assert list(found) == ["1/1", "1/191"]
    assert (found["1/1"]["kind"], found["1/1"]["status"], found["1/1"]["link"]) == ("quadrotor", "standby", "up")
    ours = found["1/191"]
    assert (ours["kind"], ours["status"]) == ("onboard controller", "active")
    assert (ours["queued"], ours["dropped"], ours["results"]) == (0, 3, 1)
    assert ours["last"] == {
        "label": "drone", "confidence": 0.75, "flags": ["TIME_UNSYNCED"], "latency_ms": 5.0, "age_s": 0.0,
    }  # fmt: skip


def test_what_comes_in_tunnels_is_shown_as_what_it_is_and_counted_by_its_frames(ether: Ether) -> None:
    short = lite.lite_of(result(class_id=2))
    ether.put(bearers.tunnelled(codec.class_info_message(1, 2, samples.LABELS)), bearers.batched([short] * 6))
    (ours,) = ether.look().values()

    assert ours["last"]["label"] == "bird"
    assert ours["messages"] == {"TUNNEL": 2, "FUSION_CLASS_INFO": 1, "FUSION_CLASSIFICATION_LITE": 6}
    assert (ours["lost"], ours["frames_s"]) == (0, 2.0)


def test_answers_of_the_past_are_counted_and_are_not_the_last_one(ether: Ether) -> None:
    ether.put(result(class_id=1), lite.marked(lite.lite_of(result(class_id=2)), Flag.BACKFILL))
    (ours,) = ether.look().values()

    assert (ours["last"]["label"], ours["results"]) == ("drone", 2)


def test_rates_are_of_the_last_seconds(ether: Ether) -> None:
    rates = []
    for second in range(20):
        ether.now_ns = second * S
        ether.put(*[standard.heartbeat(4)] * (10 if second < 10 else 0), standard.heartbeat(4))
        rates.append(ether.look()["1/191"]["frames_s"])

    assert rates[8] == pytest.approx(11 * 6 / 5)
    assert rates[-1] == pytest.approx(6 / 5)
    assert ether.look()["1/191"]["bytes_s"] == round(6 * 21 / 5)


def test_gaps_and_silence_are_shown(ether: Ether) -> None:
    ether.put(*[standard.heartbeat(4)] * 5)
    del ether.port.incoming[1:4]
    ether.look()
    ether.now_ns = 12 * S
    (ours,) = ether.look().values()

    assert (ours["lost"], ours["link"], ours["silent_s"]) == (3, "lost", 12.0)


def test_peers_are_bounded_and_the_most_silent_is_forgotten(ether: Ether) -> None:
    for system in range(1, MAX_PEERS + 2):
        ether.now_ns += S
        ether.put(standard.heartbeat(4), sender=(system, 1))
        ether.look()

    assert len(ether.monitor.peers) == MAX_PEERS
    assert (1, 1) not in ether.monitor.peers


@pytest.mark.parametrize("name", ["[/x]", "[red]drone[/red]", "[link=file:///etc/passwd]a"])
def test_a_name_that_looks_like_markup_is_shown_as_it_is(ether: Ether, name: str) -> None:
    ether.put(codec.class_info_message(1, 0, [name]), lite.lite_of(result(class_id=0)))
    ether.look()
    console = Console(width=200, record=True, quiet=False, file=io.StringIO())
    console.print(mavlink_view.drawn(ether.monitor, "link", 0, console.width))

    assert name in console.export_text()


def test_names_of_classes_without_end_are_not_all_kept(ether: Ether) -> None:
    for class_id in range(MAX_LABELS + 5):
        message = codec.class_info_message(1, 0, ["drone"])
        message.class_id = class_id
        ether.put(message)
    ether.look()

    assert len(ether.monitor.peers[1, 191].labels) == MAX_LABELS


def test_an_answer_that_is_none_and_a_class_without_a_name_are_shown_as_such(ether: Ether) -> None:
    ether.put(lite.lite_of(result(class_id=2)))
    assert ether.look()["1/191"]["last"]["label"] == "class 2"

    ether.put(lite.lite_of(codec.classification_message(codec.report_of(
        samples.no_data(), model_id=1, now_ns=0, max_age_ms=300.0, is_replay=False))))  # fmt: skip
    assert ether.look()["1/191"]["last"]["label"] == "no data"


@given(st.sampled_from(sorted(MESSAGES)), st.binary(min_size=255, max_size=255))
def test_no_content_of_any_message_breaks_the_monitor_or_its_view(number: int, content: bytes) -> None:
    made = MESSAGES[number]
    codec_of = dialect if number in dialect.mavlink_map else common
    frame = samples.encode_frame(samples.Frame(0, 1, 1, number, content[: made.unpacker.size]), made.crc_extra)
    message = codec_of.MAVLink(None).decode(bytearray(frame))
    monitor = Monitor()
    monitor.take(Received(system_id=1, component_id=1, sequence=0, name=made.msgname, message=message), 0)

    json.dumps(monitor.summary(0))
    Console(quiet=True).print(mavlink_view.drawn(monitor, "link", 0, 80))


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
def test_each_peer_has_a_line_with_the_answer_however_narrow_the_terminal_is(ether: Ether, width: int) -> None:
    ether.put(standard.heartbeat(4), status(), result())
    ether.put(common.MAVLink_heartbeat_message(2, 3, 81, 0, 3, 3), sender=(255, 240))
    ether.look()
    console = Console(width=width, file=io.StringIO())
    console.print(mavlink_view.drawn(ether.monitor, "link", ether.now_ns, console.width))
    _, headings, ours, other, *rest = console.file.getvalue().splitlines()

    assert (ours.split()[0], other.split()[0], rest) == ("1/191", "255/240", [])
    assert "drone 75%" in ours
    assert ("onboard controller" in ours) == (width >= 80)
    assert ("B/s" in headings) == (width >= 120)


def test_a_terminal_shows_that_nothing_came_yet(ether: Ether) -> None:
    console = Console(width=80, file=io.StringIO())
    console.print(mavlink_view.drawn(ether.monitor, "link", 0, console.width))
    assert console.file.getvalue().split("\n") == ["link", "nothing has come yet", ""]


@pytest.fixture
def stop(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Stands for the signals that end a command."""
    event = threading.Event()
    monkeypatch.setattr(signals, "stop_on_signals", lambda: event)
    return event


def test_the_command_ends_with_a_table_and_one_json_object(
    ether: Ether, stop: threading.Event, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ether.put(standard.heartbeat(4), result(), standard.status_text(4, "FUSION: \x1b[2Jgone"))
    monkeypatch.setattr(ether.port, "wait", lambda timeout_s: stop.set())

    assert main(["mavlink", "monitor", "--json"]) == 0

    *lines, last = capsys.readouterr().out.splitlines()
    table = "\n".join(lines)
    assert "1/191" in table
    assert "onboard controller" in table
    assert "drone 75% TIME_UNSYNCED" in table
    assert "FUSION: ?[2Jgone" in table
    found = json.loads(last)
    assert (found["link"], found["state"], list(found["peers"])) == ("udpin:127.0.0.1:14550", "up", ["1/191"])


def test_the_command_says_when_nothing_came(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mavlink", "monitor", "--link", "udpin:127.0.0.1:0", "--seconds", "0", "--json"]) == 1

    captured = capsys.readouterr()
    assert "nothing came" in captured.err
    assert json.loads(captured.out)["peers"] == {}


def test_somebody_who_looks_sees_it_redrawn_and_gets_his_terminal_back(
    ether: Ether, stop: threading.Event, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ether.put(standard.heartbeat(4))
    shown: list[str] = []
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setattr(ether.port, "wait", lambda timeout_s: stop.set())
    for name in ("start", "stop"):
        monkeypatch.setattr(mavlink_view.MavlinkView, name, lambda self, name=name: shown.append(name))
    monkeypatch.setattr(mavlink_view.MavlinkView, "show", lambda *args: shown.append("show"))

    assert main(["mavlink", "monitor"]) == 0
    assert shown == ["start", "show", "stop"]


def test_a_port_in_use_or_a_bad_link_ends_with_the_documented_exit_code() -> None:
    assert main(["mavlink", "monitor", "--link", "pigeon:1"]) == 2
