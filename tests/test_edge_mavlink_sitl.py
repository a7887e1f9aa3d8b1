"""Behind a real ArduPilot, where EDGE_SITL names its simulation: what passes it, and what it does for us.

It has a ground station on its first port and us on its second one, as on a vehicle, and stands on the ground. It wants
a processor that is not busy: else its clock falls behind by a second in two, and nobody can compare clocks with it.
"""

import contextlib
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mavlink_samples as samples
import pytest
from mavlink_peers import PATIENCE_S, Ground, free_port, publishing, running, teach_pymavlink
from mavlink_vehicle import ACCEPTED, AUTOPILOT, OURS, UNSUPPORTED
from pymavlink.dialects.v20 import common
from signatures import EPOCH_NS, KEY

from edge.mavlink.control import wanted
from edge.mavlink.control.parameters import PARAMETERS
from edge.mavlink.wire.codec import Flag
from edge.mavlink.wire.frames import FrameCounts, FrameParser
from edge.transport.sockets import BlockingPublisher, Subscriber
from edge.transport.wire import Reason, decode_message

PROGRAM = os.environ.get("EDGE_SITL", "")
HOME = (47.3977, 8.5456, 500.0)
"""Latitude, longitude in degrees, altitude in m; it looks north."""
BELOW_M = 100.0
"""Of the ground that the camera sees, 45 degrees ahead of the vehicle."""
METRES_A_DEGREE = 111_200.0
AS_IT_STANDS = """
FRAME_CLASS 1
AHRS_EKF_TYPE 10
EK3_ENABLE 0
LOG_BACKEND_TYPE 0
SCHED_LOOP_RATE 200
SIM_RATE_HZ 400
"""
"""It has the true position without an estimator, and calculates little: a simulation that is late has a slow clock."""
CAMERA = {
    "stream": "camera", "size_px": [640, 480], "field_of_view_deg": 60.0, "mount_deg": [0, -45, 0],
    "ground_altitude_m": HOME[2] - BELOW_M,
}  # fmt: skip
SPAN_S = 4.0
"""Over which rates are measured, by the vehicle's own clock."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PROGRAM, reason="needs ArduPilot's simulation: EDGE_SITL=/path/to/arducopter"),
]


class Flight:
    """An ArduPilot, its ground station, and the port where it looks for us.

    Args:
        folder: where it works.
        key: of the ground station; unsigned frames are heard all the same.
    """

    def __init__(self, folder: Path, key: bytes | None = None) -> None:
        self.folder, self.port, self._ground_port = folder, free_port(), free_port()
        (folder / "stands.parm").write_text(AS_IT_STANDS)
        self.results = BlockingPublisher(f"ipc://{folder}/results")
        self.ground = Ground(f"udpin:127.0.0.1:{self._ground_port}", key)
        if key is not None:
            self.ground.connection.setup_signing(key, sign_outgoing=True, allow_unsigned_callback=lambda *_: True)
        self.seen = "drone"
        self._sequence = 0
        self._flown_s = 0.0

    def simulating(self, *options: str) -> contextlib.AbstractContextManager[Any]:
        """Run ArduPilot."""
        program = shutil.which(PROGRAM)
        assert program is not None, f"EDGE_SITL names {PROGRAM}, which is no program"
        home = ",".join(map(str, (*HOME, 0)))
        return running(
            program, "--model", "quad", "--speedup", "1", "--defaults", "stands.parm", "--home", home,
            "--serial0", f"udpclient:127.0.0.1:{self._ground_port}", "--serial1", f"udpclient:127.0.0.1:{self.port}",
            "--serial2", "none", "--rc-in-port", str(free_port()), *options,
            cwd=self.folder, log=self.folder / "ardupilot.log",
        )  # fmt: skip

    def publishing(self, **link: Any) -> contextlib.AbstractContextManager[Any]:
        """Run `uav-edge mavlink` on the second port."""
        asked = {"link": f"udpin:127.0.0.1:{self.port}", "bearer": ["native", "tunnel", "summary"], **link}
        mavlink = {"links": [asked], "camera": CAMERA, "received": f"ipc://{self.folder}/received"}
        return publishing(self.folder, self.results, mavlink)

    def answer(self) -> None:
        """Let the pipeline answer, ten times a second, and tell how it is."""
        if time.monotonic() - self._flown_s < 0.1:
            return
        self._flown_s, now_ns = time.monotonic(), time.monotonic_ns()
        if self._sequence % 10 == 0:
            self.results.send(samples.on_wire(samples.status(time_ns=now_ns)))
        seen = (
            samples.modality("iq", stream="radio", capture_ns=now_ns),
            samples.modality("image", stream="camera", capture_ns=now_ns),
        )
        self._sequence += 1
        times = {"sequence": self._sequence, "capture_ns": now_ns, "answer_ns": now_ns}
        what = {"class_id": samples.LABELS.index(self.seen), "label": self.seen}
        self.results.send(samples.on_wire(samples.answer(modalities=seen, **times, **what)))

    def until(self, is_true: Callable[[], Any], what: str) -> None:
        """Fly until something is true."""

        def is_so() -> Any:
            self.answer()
            return is_true()

        self.ground.until(is_so, what)

    def close(self) -> None:
        """Give the ports back."""
        self.ground.__exit__()
        self.results.close()


@pytest.fixture(scope="module", autouse=True)
def mavutil() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        teach_pymavlink(monkeypatch)
        yield


@pytest.fixture(scope="module")
def flight(mavutil: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flight]:
    """An autopilot that has met nobody of us yet."""
    with contextlib.closing(Flight(tmp_path_factory.mktemp("flight"))) as flight, flight.simulating("--wipe"):
        flight.ground.answer(common.MAVLink_param_request_read_message(*AUTOPILOT, b"FRAME_CLASS", -1), "PARAM_VALUE",
                             source=1)  # fmt: skip
        yield flight


@pytest.fixture
def companion(flight: Flight) -> Iterator[Flight]:
    """The same with us on board, heard by the ground."""
    with flight.publishing(require_signed="none"):
        flight.ground.heard.clear()
        flight.until(lambda: flight.ground.of_us("HEARTBEAT"), "our heartbeat through the autopilot")
        yield flight


def test_what_is_sent_to_us_is_answered_by_the_autopilot_while_we_are_silent(flight: Flight) -> None:
    assert flight.ground.command(common.MAV_CMD_USER_1, 2, source=AUTOPILOT[1]) == UNSUPPORTED


def test_the_ground_hears_of_our_answers_in_tunnels_and_in_words_and_not_as_they_are(companion: Flight) -> None:
    ground = companion.ground
    companion.until(lambda: len(ground.inside("FUSION_CLASSIFICATION")) >= 30, "answers in TUNNEL")
    companion.until(lambda: ground.inside("FUSION_STATUS"), "our status in TUNNEL")
    companion.until(lambda: ground.of_us("NAMED_VALUE_FLOAT"), "values")
    companion.seen = "bird"
    companion.until(lambda: any("bird" in text.text for text in ground.of_us("STATUSTEXT")), "words")

    assert {report.label.rstrip("\0") for report in ground.inside("FUSION_CLASSIFICATION")} == {"drone", "bird"}
    assert not [name for name in ground.names() if name.startswith(("FUSION", "UNKNOWN"))]


def test_commands_and_parameters_reach_us_through_the_autopilot(companion: Flight) -> None:
    ground = companion.ground
    assert [ground.command(common.MAV_CMD_USER_1, order) for order in (2, 3)] == [ACCEPTED, ACCEPTED]
    assert ground.command(common.MAV_CMD_NAV_LAND) == UNSUPPORTED
    assert list(ground.parameters()) == [known.name for known in PARAMETERS]
    assert ground.put("FUS_RATE_HZ", 4.0) == 4.0
    assert ground.parameters()["FUS_RATE_HZ"] == 4.0


def test_it_is_asked_for_what_we_need_until_that_comes_and_again_after_it_restarts(tmp_path: Path) -> None:
    wants = {want.name: want.rate_hz for want in (wanted.ATTITUDE, wanted.POSITION, wanted.SYSTEM_TIME)}
    with contextlib.closing(Flight(tmp_path)) as flight, flight.publishing(require_signed="none"):
        for options in (("--wipe",), ()):
            with flight.simulating(*options), Subscriber([f"ipc://{tmp_path}/received"]) as received:
                heard = Heard(received)
                flight.until(lambda heard=heard: heard.has(wants), f"{wants} of the autopilot")


class Heard:
    """What the autopilot says to us, as we publish it for the recorder."""

    def __init__(self, received: Subscriber) -> None:
        self._received = received
        self._parser = FrameParser(FrameCounts())
        self._boot_s: dict[str, list[float]] = {}

    def has(self, rates_hz: dict[str, int]) -> bool:
        """Say whether messages come as often as they were asked for, by the clock of who sends them."""
        while (parts := self._received.receive(0)) is not None:
            decoded = decode_message(parts)
            assert not isinstance(decoded, Reason)
            for message in self._parser.feed(bytes(decoded[1])):
                if message.get_srcComponent() == AUTOPILOT[1] and hasattr(message, "time_boot_ms"):
                    self._boot_s.setdefault(message.get_type(), []).append(message.time_boot_ms / 1000)
        return all(self._rate_hz(name) >= wanted.ENOUGH * rate_hz for name, rate_hz in rates_hz.items())

    def _rate_hz(self, name: str) -> float:
        times_s = self._boot_s.get(name, [])
        lately = [time_s for time_s in times_s if times_s[-1] - time_s <= SPAN_S]
        return (len(lately) - 1) / SPAN_S if times_s and times_s[-1] - times_s[0] > SPAN_S else 0.0


def test_answers_carry_utc_and_the_place_that_the_camera_sees_once_the_autopilot_has_told_them(
    companion: Flight,
) -> None:
    def last() -> Any:
        companion.ground.heard = companion.ground.heard[-1000:]
        return (companion.ground.inside("FUSION_CLASSIFICATION") or [None])[-1]

    def is_known() -> bool:
        report = last()
        return report is not None and not report.flags & Flag.TIME_UNSYNCED and bool(report.flags & Flag.GEO_VALID)

    companion.until(is_known, "answers with time and place")
    companion.until(lambda: abs(last().time_usec / 1e6 - time.time()) < PATIENCE_S, "UTC in answers")
    report = last()
    north_m = (report.lat / 1e7 - HOME[0]) * METRES_A_DEGREE
    east_m = (report.lon / 1e7 - HOME[1]) * METRES_A_DEGREE * math.cos(math.radians(HOME[0]))
    assert north_m == pytest.approx(BELOW_M, abs=15)
    assert east_m == pytest.approx(0, abs=15)
    assert report.alt == pytest.approx(1000 * (HOME[2] - BELOW_M), abs=2000)


def test_where_it_wants_signatures_only_what_we_sign_passes(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(KEY)
    (tmp_path / "key").chmod(0o600)
    with contextlib.closing(Flight(tmp_path, KEY)) as flight, flight.simulating("--wipe"):
        ground = flight.ground
        with flight.publishing(require_signed="none"):
            flight.until(lambda: ground.of_us("HEARTBEAT"), "our heartbeat, before anything must be signed")
            since = (time.time_ns() - EPOCH_NS) // 10_000
            demand = common.MAVLink_setup_signing_message(*AUTOPILOT, list(KEY), since)
            ground.answer(demand, "HEARTBEAT", lambda beat: beat.get_signed(), source=AUTOPILOT[1])
            ground.heard.clear()
            flight.until(lambda: ground.names()["HEARTBEAT"] >= 8, "the autopilot after we must sign")
            assert {message.get_srcComponent() for message in ground.heard} == {AUTOPILOT[1]}
        with flight.publishing(key="key"):
            flight.until(lambda: ground.inside("FUSION_CLASSIFICATION"), "answers, as we sign now")
            assert all(message.get_signed() for message in ground.heard if message.get_srcComponent() == OURS[1])
            assert ground.command(common.MAV_CMD_USER_1, 2) == ACCEPTED
