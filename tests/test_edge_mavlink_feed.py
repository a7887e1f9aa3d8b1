"""What the vehicle says is told to the recorder and the pipeline: its frames as they came, and its poses."""

import math
import socket
import threading
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from fake_autopilot import MS, FakeAutopilot, S
from pymavlink.dialects.v20 import common
from recorders import await_claim, config_of

from edge.clock import SystemClock
from edge.config import FlightConfig, MavlinkConfig, load_flight
from edge.mavlink.network.link import open_link
from edge.mavlink.place.feed import Feed
from edge.mavlink.place.hearing import MAX_KEPT, Heard
from edge.mavlink.place.whereabouts import Whereabouts
from edge.mavlink.process import run_publisher
from edge.mavlink.wire import frame_times
from edge.recording.flight_files import FlightFiles
from edge.recording.reader import open_recording
from edge.recording.recorder import RECEIVED, Recorder
from edge.recording.telemetry import events_with_telemetry
from edge.transport.messages import Kind, Pose, unpack
from edge.transport.sockets import Subscriber
from edge.transport.wire import Reason, decode_message
from models.errors import LinkError

PATIENCE_S = 30.0
START_NS = 5 * S


def packed(message: Any, system_id: int = 1) -> Any:
    """Return a message as a link decodes it: with its frame."""
    message.pack(common.MAVLink(None, srcSystem=system_id, srcComponent=1))
    return message


def said(autopilot: FakeAutopilot, whereabouts: Whereabouts, now_ns: int, *messages: Any) -> list[Heard]:
    """Let an autopilot say something; return what is kept of it."""
    autopilot.say(whereabouts, now_ns, *(packed(message, autopilot.system_id) for message in messages))
    return whereabouts.hearing.take()


def test_frames_of_our_vehicle_are_kept_once_and_as_they_came() -> None:
    whereabouts, ours = Whereabouts(system_id=1), FakeAutopilot()
    messages = [packed(ours.heartbeat()), packed(ours.system_time(START_NS)), packed(ours.position(START_NS))]
    ours.say(whereabouts, START_NS, *messages)
    FakeAutopilot(link=1).say(whereabouts, START_NS, *messages)
    heard = whereabouts.hearing.take()
    assert [item.frame for item in heard] == [bytes(message.get_msgbuf()) for message in messages]
    assert {item.heard_ns for item in heard} == {START_NS}
    assert whereabouts.hearing.take() == []
    other = FakeAutopilot(system_id=2)
    assert said(other, whereabouts, START_NS, other.heartbeat(), other.attitude(START_NS)) == []


def test_what_a_ground_station_says_is_not_the_vehicles() -> None:
    whereabouts, ground = Whereabouts(system_id=1), FakeAutopilot(system_id=255, component_id=190)
    beat = common.MAVLink_heartbeat_message(common.MAV_TYPE_GCS, common.MAV_AUTOPILOT_INVALID, 0, 0, 4, 3)
    assert said(ground, whereabouts, START_NS, beat) == []


def test_frames_that_nobody_takes_are_forgotten() -> None:
    whereabouts, ours = Whereabouts(system_id=1), FakeAutopilot()
    heard = said(ours, whereabouts, START_NS, *(ours.heartbeat() for _ in range(MAX_KEPT + 5)))
    assert len(heard) == MAX_KEPT


def test_an_attitude_tells_the_pose_where_the_position_is_known() -> None:
    whereabouts, ours = Whereabouts(system_id=1), FakeAutopilot(heading_deg=90.0)
    unplaced = said(ours, whereabouts, START_NS, ours.heartbeat(), ours.attitude(START_NS))
    assert [item.pose for item in unplaced] == [None, None]
    at_ns = START_NS + 20 * MS
    *_, placed = said(ours, whereabouts, at_ns, ours.position(at_ns), ours.attitude(at_ns))
    assert placed.pose == Pose(
        capture_ns=at_ns,
        latitude_deg=47.0,
        longitude_deg=8.0,
        altitude_m=500.0,
        yaw_rad=pytest.approx(math.pi / 2),
    )
    later_ns = at_ns + S
    (stale,) = said(ours, whereabouts, later_ns, ours.attitude(later_ns))
    assert stale.pose is None


def test_an_attitude_that_is_none_tells_no_pose() -> None:
    whereabouts, ours = Whereabouts(system_id=1), FakeAutopilot()
    broken = common.MAVLink_attitude_message(0, math.nan, 0.0, 0.0, 0.0, 0.0, 0.0)
    spoken = ours.heartbeat(), ours.position(START_NS), ours.attitude(START_NS), broken
    assert [item.pose is None for item in said(ours, whereabouts, START_NS, *spoken)] == [True, True, False, True]


def test_a_flight_keeps_the_frames_of_its_vehicle_and_they_are_replayed(tmp_path: Path) -> None:
    ours, path = FakeAutopilot(), tmp_path / "flight.mcap"
    clock, stop = SystemClock(), threading.Event()
    frames = [bytes(packed(ours.attitude(n * 100 * MS)).get_msgbuf()) for n in range(3)]
    endpoint = f"ipc://{tmp_path}/frames"
    mavlink = MavlinkConfig(links=("udpin:0",), received=endpoint)
    config = msgspec.structs.replace(config_of(tmp_path, topics=("mavlink",)), mavlink=mavlink)
    with Feed(endpoint, None) as feed, FlightFiles(path, config.recording) as files:
        recorder = Recorder(config, files)
        thread = threading.Thread(target=recorder.run, args=(stop,))
        thread.start()
        assert feed._publishers[Kind.MAVLINK].wait_for_listeners(1, PATIENCE_S)
        heard_ns = clock.now_ns()
        feed.publish([Heard(frame=frame, heard_ns=heard_ns) for frame in frames], heard_ns)
        await_claim(lambda: recorder.tallies[RECEIVED].recorded == len(frames))
        stop.set()
        thread.join()
    assert recorder.tallies[RECEIVED].lost == 0
    recording = open_recording(path)
    assert [event.payload for event in recording.events({RECEIVED})] == frames
    spoken = [event.payload for event in events_with_telemetry(recording) if event.kind == Kind.MAVLINK]
    assert [frame_times.since_boot_us(frame) for frame in spoken] == [
        frame_times.since_boot_us(frame) for frame in frames
    ]


DEPLOYMENT = """
bundle: none.uavb
results: ipc://{folder}/results
pose: ipc://{folder}/pose
streams:
  front: {{modality: image, endpoint: "ipc://{folder}/front", rate_hz: 30}}
mavlink:
  links: ["udpin:127.0.0.1:{port}"]
  received: ipc://{folder}/frames
  poses: true
"""


def test_beside_an_autopilot_its_frames_and_poses_are_published(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    path = tmp_path / "flight.yaml"
    path.write_text(DEPLOYMENT.format(folder=tmp_path, port=port))
    config, clock, stop = load_flight(path), SystemClock(), threading.Event()
    autopilot, came = FakeAutopilot(), {}
    thread = threading.Thread(target=run_publisher, args=(config, stop))
    with Subscriber([config.pose, config.mavlink.received]) as subscriber:
        thread.start()
        link = open_link(f"udpout:127.0.0.1:{port}", 1, 1, clock)
        deadline_s = time.monotonic() + PATIENCE_S
        while set(came) != {Kind.MAVLINK, Kind.POSE}:
            assert time.monotonic() < deadline_s, came
            now_ns = clock.now_ns()
            for message in (autopilot.heartbeat(), autopilot.position(now_ns), autopilot.attitude(now_ns)):
                link.send(message)
            while (parts := subscriber.receive(20)) is not None:
                decoded = decode_message(parts)
                assert not isinstance(decoded, Reason)
                came[decoded[0].kind] = bytes(decoded[1])
        stop.set()
        thread.join(PATIENCE_S)
        link.close()
    assert frame_times.sender(came[Kind.MAVLINK]) == (1, 1)
    assert frame_times.is_whole(came[Kind.MAVLINK])
    pose = unpack(came[Kind.POSE], Pose)
    assert (pose.latitude_deg, pose.longitude_deg, pose.altitude_m) == (47.0, 8.0, 500.0)


def test_a_taken_endpoint_frees_the_other(tmp_path: Path) -> None:
    frames, poses = f"ipc://{tmp_path}/frames", f"ipc://{tmp_path}/poses"
    with Feed(None, poses):
        with pytest.raises(LinkError, match="poses"):
            Feed(frames, poses)
        with Feed(frames, None):
            assert (tmp_path / "frames").exists()


@pytest.mark.parametrize(
    ("pose", "mavlink", "text"),
    [
        (None, {"poses": True}, "mavlink.poses: expected pose, the endpoint"),
        (None, {"received": "tcp://10.0.0.1:5000"}, "expected ipc://PATH or tcp://127.0.0.1:PORT"),
        ("ipc:///tmp/x", {"received": "ipc:///tmp/x"}, "give each its own"),
    ],
)
def test_a_deployment_that_cannot_publish_them_is_refused(
    tmp_path: Path, pose: str | None, mavlink: dict[str, Any], text: str
) -> None:
    config = config_of(tmp_path)
    with pytest.raises(ValueError, match=text):
        FlightConfig(
            bundle=config.bundle,
            streams=config.streams,
            results=config.results,
            pose=pose,
            mavlink=MavlinkConfig(links=("udpin:0",), **mavlink),
        )
