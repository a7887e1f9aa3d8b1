"""A vehicle's log: its poses, and its MAVLink frames where it has them."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np

from edge.mavlink.logs.flight_log import read_flight_log
from edge.mavlink.logs.logged_flight import LoggedFlight
from edge.recording.composition import MAVLINK, POSE, Moment, Packet, Part
from edge.recording.imports.clock_fit import fit_clock
from edge.recording.imports.source import NS_PER_S, Place, Source
from edge.recording.imports.track_table import read_track
from edge.transport.messages import Pose
from models.errors import RecordingError


def log_source(path: Path) -> Source:
    """Return a log or a table of a track (.csv), from its first good fix on; a .tlog from its first frame on.

    Raises:
        DeviceError: a library is not installed.
        RecordingError: not a log of a known kind, or without anything usable.
    """
    flight = _read(path)
    begin_ns, end_ns = flight.span_ns
    return Source(
        name=path.stem,
        kind=POSE,
        span_ns=end_ns - begin_ns,
        utc_ns=None if flight.utc_offset_ns is None else begin_ns + flight.utc_offset_ns,
        clock=fit_clock(flight.readings),
        parts=lambda place: _parts(path, flight, place),
    )


def _read(path: Path) -> LoggedFlight:
    return read_track(path) if path.suffix.lower() == ".csv" else read_flight_log(path)


def _parts(path: Path, flight: LoggedFlight, place: Place) -> list[Part]:
    begin_ns = flight.span_ns[0]
    moved = [(place.at(pose.capture_ns - begin_ns), pose) for pose in flight.poses]
    kept = [msgspec.structs.replace(pose, capture_ns=at_ns) for at_ns, pose in moved if place.holds(at_ns)]
    count = sum(place.holds(place.at(time_us * 1_000 - begin_ns)) for time_us in flight.packet_times_us)
    if not kept and not count:
        raise RecordingError(f"{path}: no pose in the time of the other sources: correct --offset or --anchor")
    reasons = [*flight.refused.items()]
    left_out = "".join(f", {number} fixes left out ({reason})" for reason, number in reasons)
    left_out += f", {len(moved) - len(kept)} poses outside of the flight" if len(moved) > len(kept) else ""
    left_out += "".join(f", {number} {reason}" for reason, number in flight.damage.items())
    parts = [
        Part(
            name=POSE,
            origin=f"{path.name} from its first good fix on{left_out}",
            moments=(Moment(capture_ns=pose.capture_ns, arrival_ns=pose.capture_ns, content=pose) for pose in kept),
            count=len(kept),
            end_ns=kept[-1].capture_ns if kept else place.begin_ns,
        )
    ]
    if flight.packets is not None:
        origin = f"{path.name}, {flight.messages} frames"
        end_ns = place.at(flight.span_ns[1] - begin_ns)
        parts.append(Part(name=MAVLINK, origin=origin, moments=_packets(flight, place), count=count, end_ns=end_ns))
    return parts


def _packets(flight: LoggedFlight, place: Place) -> Iterator[Moment]:
    for time_ns, frame in flight.packets() if flight.packets is not None else ():
        at_ns = place.at(time_ns - flight.span_ns[0])
        if place.holds(at_ns):
            yield Moment(capture_ns=at_ns, arrival_ns=at_ns, content=Packet(frame=frame))


def stretched_pose_part(path: Path, begin_ns: int, end_ns: int, period_ns: int) -> Part:
    """Return a log's whole track, its time stretched or squeezed to a span: what was where stays true, when does not.

    Raises:
        RecordingError: not a log, or without one usable fix.
    """
    poses = _read(path).poses
    if not poses:
        raise RecordingError(f"{path}: no usable GPS fix: take a log with 3D fixes")
    return _stretched(path, poses, range(begin_ns, end_ns, period_ns), end_ns)


def _stretched(path: Path, poses: tuple[Pose, ...], times_ns: range, end_ns: int) -> Part:
    first_ns, last_ns = poses[0].capture_ns, poses[-1].capture_ns
    logged_ns = np.array([pose.capture_ns for pose in poses])
    wanted_ns = np.linspace(first_ns, last_ns, len(times_ns))
    nearest = np.abs(logged_ns[None, :] - wanted_ns[:, None]).argmin(axis=1)
    moved = [msgspec.structs.replace(poses[n], capture_ns=at_ns) for n, at_ns in zip(nearest, times_ns, strict=True)]
    seconds = ((last_ns - first_ns) / NS_PER_S, (end_ns - times_ns.start) / NS_PER_S)
    return Part(
        name=POSE,
        origin=f"track of {path.name}, its {seconds[0]:.0f} s stretched to {seconds[1]:.0f} s",
        moments=(Moment(capture_ns=pose.capture_ns, arrival_ns=pose.capture_ns, content=pose) for pose in moved),
        count=len(moved),
        end_ns=end_ns,
    )
