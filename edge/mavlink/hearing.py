"""What our vehicle says on the link that tells its time: kept until other processes of this machine are told."""

import math
from collections import deque
from dataclasses import dataclass
from typing import Any

from edge.mavlink.autopilots import Autopilots
from edge.mavlink.link import Received
from edge.mavlink.pose import Track
from edge.transport.messages import Pose

MAX_KEPT = 1_000
"""A second of a fast serial port; whoever takes them looks 50 times a second."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Heard:
    """One frame of the vehicle."""

    frame: bytes
    """As it came."""
    heard_ns: int
    pose: Pose | None = None
    """That it tells: an attitude does, where the position at that moment is known."""


class Hearing:
    """Keeps frames of the vehicle's system until they are taken; those of others, and doubles by other links, not."""

    def __init__(self) -> None:
        self._kept: deque[tuple[Any, int, Pose | None]] = deque(maxlen=MAX_KEPT)

    def on_received(self, link: int, item: Received, autopilots: Autopilots, now_ns: int) -> None:
        """Take a message of a link, after the autopilots have."""
        key = autopilots.ours_key(now_ns)
        if key is None or (link, item.system_id) != key[:2] or item.is_inside:
            return
        ours = autopilots.ours(now_ns) if item.name == "ATTITUDE" and item.component_id == key[2] else None
        self._kept.append((item.message, now_ns, _pose(ours.track, item.message) if ours is not None else None))

    def take(self) -> list[Heard]:
        """Return what was heard since the last call."""
        heard = [
            Heard(frame=bytes(message.get_msgbuf()), heard_ns=at_ns, pose=pose) for message, at_ns, pose in self._kept
        ]
        self._kept.clear()
        return heard


def _pose(track: Track, attitude: Any) -> Pose | None:
    """Return the pose at the attitude that came last, None where the position is not known, or that was none."""
    at_ns = track.attitudes.newest_ns
    found = track.places.at(at_ns) if at_ns is not None else None
    angles = (attitude.roll, attitude.pitch, attitude.yaw)
    if at_ns is None or found is None or not all(map(math.isfinite, angles)):
        return None
    place = found.value
    return Pose(
        capture_ns=at_ns,
        latitude_deg=place.latitude_deg,
        longitude_deg=place.longitude_deg,
        altitude_m=place.altitude_m,
        roll_rad=attitude.roll,
        pitch_rad=attitude.pitch,
        yaw_rad=attitude.yaw,
    )
