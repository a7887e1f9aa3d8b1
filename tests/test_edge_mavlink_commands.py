import gc
import json
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mavlink_samples as samples
import msgspec
import pytest
from pymavlink.dialects.v20 import common

from edge.cli import main
from edge.config import load_flight
from edge.mavlink.network.link import Link
from edge.mavlink.outgoing import bearers, lite
from edge.mavlink.process import run_publisher
from edge.mavlink.station.ground import GroundStation
from edge.mavlink.wire import codec, standard
from edge.operations import signals
from edge.operations.supervisor import flight_commands
from edge.transport.sockets import BlockingPublisher
from models.errors import ConfigError

PATIENCE_S = 20
DEPLOYMENT = """
bundle: none.uavb
results: ipc://{folder}/results
streams:
  radio: {{modality: iq, endpoint: "ipc://{folder}/radio", rate_hz: 100}}
"""


@pytest.fixture(autouse=True)
def stop(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Stands for the signals that end a command; what a command sets for its process ends with it."""
    event, interval_s = threading.Event(), sys.getswitchinterval()
    monkeypatch.setattr(signals, "stop_on_signals", lambda: event)
    yield event
    gc.unfreeze()
    sys.setswitchinterval(interval_s)


@pytest.fixture
def port() -> Iterator[int]:
    """A UDP port that is in use."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]


def deployment(folder: Path, mavlink: str = "") -> Path:
    path = folder / "flight.yaml"
    path.write_text(DEPLOYMENT.format(folder=folder) + mavlink)
    return path


def test_publishing_without_a_link_ends_with_the_remedy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mavlink", "--config", str(deployment(tmp_path))]) == 2
    assert "add mavlink: {links: [udpout:HOST:14550]}" in capsys.readouterr().err


def test_a_link_that_is_nonsense_is_shown_with_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = deployment(tmp_path, "mavlink:\n  links: ['tcp:127.0.0.1:5760']\n")

    assert main(["mavlink", "--config", str(path)]) == 2
    assert "flight.yaml:6: mavlink: link 'tcp:127.0.0.1:5760': expected udpout:HOST:PORT" in capsys.readouterr().err


def test_mavlink_without_links_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="links: expected at least one"):
        load_flight(deployment(tmp_path, "mavlink: {links: []}\n"))


def test_nothing_that_is_loaded_at_the_start_holds_an_answer_up_later(
    tmp_path: Path, port: int, stop: threading.Event
) -> None:
    stop.set()
    before = gc.get_freeze_count()

    assert (
        main(["mavlink", "--config", str(deployment(tmp_path, f"mavlink: {{links: ['udpout:127.0.0.1:{port}']}}"))])
        == 0
    )
    assert gc.get_freeze_count() > before + 10_000
    assert sys.getswitchinterval() <= 0.001


def test_a_port_in_use_ends_with_the_documented_exit_code(
    tmp_path: Path, port: int, capsys: pytest.CaptureFixture[str]
) -> None:
    path = deployment(tmp_path, f"mavlink: {{links: ['udpin:127.0.0.1:{port}']}}\n")

    assert main(["mavlink", "--config", str(path)]) == 5
    assert "name another port" in capsys.readouterr().err
    assert main(["ground", "--link", f"udpin:127.0.0.1:{port}"]) == 5


def test_garbage_on_the_results_socket_is_told_and_the_next_answer_is_sent(
    tmp_path: Path, stop: threading.Event, caplog: pytest.LogCaptureFixture
) -> None:
    with GroundStation("udpin:127.0.0.1:0") as ground:
        link = f"udpout:127.0.0.1:{ground.port}"
        config = load_flight(deployment(tmp_path, f"mavlink: {{links: ['{link}']}}\n"))
        thread = threading.Thread(target=run_publisher, args=(config, stop))
        with BlockingPublisher(config.results) as results:
            thread.start()
            assert results.wait_for_listeners(1, PATIENCE_S)
            results.send([b"garbage"])
            results.send(samples.on_wire(samples.answer()))
            deadline_s = time.monotonic() + PATIENCE_S
            while not ground.counts.results and time.monotonic() < deadline_s:
                ground.poll(timeout_ms=100)
            stop.set()
            thread.join(PATIENCE_S)

        assert ground.counts.results == 1
    assert "refused so far: {'wrong_parts': 1}" in caplog.text


def test_mavlink_starts_before_the_pipeline_and_ends_after_it(tmp_path: Path) -> None:
    path = deployment(tmp_path, "mavlink: {links: ['udpout:127.0.0.1:14550']}\n")

    assert list(flight_commands(load_flight(path), path)) == ["mavlink", "pipeline"]


def arriving(monkeypatch: pytest.MonkeyPatch, stop: threading.Event, *messages: Any) -> None:
    """Let the messages arrive at the ground station, then end it."""
    transport = samples.FakeTransport()
    vehicle = samples.FakeTransport()
    for message in messages:
        Link(vehicle, 1, 191).send(message)
    transport.incoming = [("vehicle", data) for data in vehicle.sent]

    def wait(timeout_s: float) -> None:
        stop.set()

    monkeypatch.setattr(transport, "wait", wait)
    monkeypatch.setattr("edge.mavlink.station.ground.open_link", lambda *args: Link(transport, 255, 190))


@pytest.mark.parametrize(
    ("h_acc_m", "text"), [(12.3, "47.400000 8.550000 within 12 m  "), (None, "47.400000 8.550000  ")]
)
def test_the_ground_shows_where_a_thing_is_and_how_surely(
    monkeypatch: pytest.MonkeyPatch,
    stop: threading.Event,
    capsys: pytest.CaptureFixture[str],
    h_acc_m: float | None,
    text: str,
) -> None:
    report = codec.report_of(samples.answer(), model_id=1, now_ns=905_000_000, max_age_ms=300.0, is_replay=False)
    there = msgspec.structs.replace(report, position=codec.Position(47.4, 8.55, 400.0), h_acc_m=h_acc_m)
    arriving(monkeypatch, stop, codec.classification_message(there))

    assert main(["ground"]) == 0

    assert text in capsys.readouterr().out.splitlines()[0]


def test_the_ground_shows_what_arrives_and_counts_it(
    monkeypatch: pytest.MonkeyPatch, stop: threading.Event, capsys: pytest.CaptureFixture[str]
) -> None:
    report = codec.report_of(samples.answer(), model_id=1, now_ns=905_000_000, max_age_ms=300.0, is_replay=True)
    arriving(monkeypatch, stop, codec.classification_message(report), standard.status_text(6, "FUSION: drone 75%"))

    assert main(["ground", "--json"]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert "drone" in lines[0]
    assert "75.0 %" in lines[0]
    assert "TIME_UNSYNCED REPLAY" in lines[0]
    assert '"FUSION: drone 75%"' in lines[1]
    assert json.loads(lines[-1]) == {
        "messages": {"FUSION_CLASSIFICATION": 1, "STATUSTEXT": 1},
        "results": 1,
        "results_missing": 0,
        "short": 0,
        "past": 0,
        "frames_lost": 0,
        "frames_bad": 0,
        "tunnels_bad": 0,
        "frames_unknown": 0,
        "refused": {},
        "senders": {"1/191": 2},
    }


def test_the_ground_reads_both_bearers_and_counts_what_came_twice_once(
    monkeypatch: pytest.MonkeyPatch, stop: threading.Event, capsys: pytest.CaptureFixture[str]
) -> None:
    report = codec.report_of(samples.answer(), model_id=1, now_ns=905_000_000, max_age_ms=300.0, is_replay=False)
    message = codec.classification_message(report)
    short = lite.lite_of(message, count=3)
    late = lite.marked(short, codec.Flag.BACKFILL)
    lie = common.MAVLink_tunnel_message(0, 0, 0xF5C0, 1, [0] * 128)
    info = bearers.tunnelled(codec.class_info_message(1, 1, samples.LABELS))
    arriving(monkeypatch, stop, message, bearers.tunnelled(message), info, bearers.batched([short, late, late]), lie)

    assert main(["ground", "--json"]) == 0

    *lines, last = capsys.readouterr().out.splitlines()
    counts = json.loads(last)
    assert (counts["results"], counts["short"], counts["past"], counts["tunnels_bad"]) == (1, 3, 2, 1)
    assert counts["messages"]["FUSION_CLASS_INFO"] == 1
    assert (counts["frames_lost"], counts["senders"]) == (0, {"1/191": 5})
    assert sum("drone" in line and "3 answers at 0.9 s" in line and "BACKFILL" in line for line in lines) == 2


def test_the_ground_prints_no_control_codes_of_others(
    monkeypatch: pytest.MonkeyPatch, stop: threading.Event, capsys: pytest.CaptureFixture[str]
) -> None:
    arriving(monkeypatch, stop, standard.status_text(6, "\x1b[2Jgone"))

    main(["ground"])

    assert '"?[2Jgone"' in capsys.readouterr().out


def test_the_ground_says_when_nothing_came(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ground", "--link", "udpin:127.0.0.1:0", "--seconds", "0"]) == 1
    assert "nothing came" in capsys.readouterr().err
