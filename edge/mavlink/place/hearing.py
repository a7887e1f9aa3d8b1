"""What our vehicle says on the link that tells its time: kept until other processes of this machine are told."""

import math
from collections import deque
from dataclasses import dataclass
from typing import Any

from edge.mavlink.geometry.pose import Track
from edge.mavlink.network.link import Received
from edge.mavlink.place.autopilots import Autopilots
from edge.mavlink.wire.frames import without_signature
from edge.transport.messages import Pose

MAX_KEPT = 1_000
"""A second of a fast serial port; whoever takes them looks 50 times a second."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Heard:
    """One frame of the vehicle."""

    frame: bytes
    """As it came, but without its signature: a recording goes to others, who might guess a passphrase from it."""
    heard_ns: int
    pose: Pose | None = None
    """That it tells: an attitude does, where the position at that moment is known."""


class Hearing:
    """Keeps frames of the vehicle's system until they are taken; those of others, and doubles by other links, not."""

    def __init__(self) -> None:
        self._kept: deque[tuple[Any, int, Pose | None]] = deque(maxlen=MAX_KEPT)
        self._posed_ns: int | None = None
        """Time of the last pose: a copy of its attitude by another way tells none."""

    def on_received(self, link: int, item: Received, autopilots: Autopilots, now_ns: int) -> None:
        """Take a message of a link, after the autopilots have."""
        key = autopilots.ours_key(now_ns)
        is_ours = key is not None and (link, item.system_id) == key[:2] and autopilots.believes(link, item)
        if key is None or not is_ours or item.is_inside:
            return
        ours = autopilots.ours(now_ns) if item.name == "ATTITUDE" and item.component_id == key[2] else None
        newest_ns = ours.track.attitudes.newest_ns if ours is not None else None
        pose = _pose(ours.track, item.message) if ours is not None and newest_ns != self._posed_ns else None
        self._posed_ns = newest_ns if newest_ns is not None else self._posed_ns
        self._kept.append((item.message, now_ns, pose))

    def take(self) -> list[Heard]:
        """Return what was heard since the last call."""
        kept = [(without_signature(bytes(message.get_msgbuf())), at_ns, pose) for message, at_ns, pose in self._kept]
        self._kept.clear()
        return [Heard(frame=frame, heard_ns=at_ns, pose=pose) for frame, at_ns, pose in kept if frame is not None]


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
