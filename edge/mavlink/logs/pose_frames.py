"""What an autopilot would have sent of poses that somebody else wrote down."""

import math

from pymavlink.dialects.v20 import common

from edge.mavlink.wire import frame_times
from edge.transport.messages import Pose

SYSTEM_ID, COMPONENT_ID = 1, frame_times.AUTOPILOT
BOOT_S = 60
"""It had been on for so long when the flight began."""
NS_PER_S = 1_000_000_000
_US, _MS = 1_000, 1_000_000
_UNKNOWN_HEADING = 0xFFFF
_HIGHEST_M = 100_000.0


class PoseFrames:
    """Makes GLOBAL_POSITION_INT and ATTITUDE of poses, and HEARTBEAT and SYSTEM_TIME once a second.

    Heights above take-off are heights above the first pose.
    """

    def __init__(self, begin_ns: int, utc_offset_ns: int) -> None:
        """Begin.

        Args:
            begin_ns: of the flight, by the poses' clock.
            utc_offset_ns: UTC minus that clock.
        """
        self._boot_ns = begin_ns - BOOT_S * NS_PER_S
        self._utc_offset_ns = utc_offset_ns
        self._home_m: float | None = None
        self._next_second_ns = begin_ns
        self._encoder = common.MAVLink(None, srcSystem=SYSTEM_ID, srcComponent=COMPONENT_ID)

    def frames(self, pose: Pose) -> list[bytes]:
        """Return the frames of a pose, to be sent at its time; none of one that is no place."""
        if not _is_place(pose):
            return []
        self._home_m = pose.altitude_m if self._home_m is None else self._home_m
        boot_ms = (pose.capture_ns - self._boot_ns) // _MS % (1 << 32)
        messages = [
            common.MAVLink_attitude_message(boot_ms, pose.roll_rad, pose.pitch_rad, pose.yaw_rad, 0.0, 0.0, 0.0),
            common.MAVLink_global_position_int_message(
                boot_ms,
                round(pose.latitude_deg * 1e7),
                round(pose.longitude_deg * 1e7),
                round(pose.altitude_m * 1e3),
                round((pose.altitude_m - self._home_m) * 1e3),
                0,
                0,
                0,
                _UNKNOWN_HEADING,
            ),
        ]
        if pose.capture_ns >= self._next_second_ns:
            self._next_second_ns = pose.capture_ns + NS_PER_S
            unix_us = max(pose.capture_ns + self._utc_offset_ns, 0) // _US
            heartbeat = common.MAVLink_heartbeat_message(
                common.MAV_TYPE_GENERIC, common.MAV_AUTOPILOT_GENERIC, 0, 0, common.MAV_STATE_ACTIVE, 3
            )
            messages = [heartbeat, common.MAVLink_system_time_message(unix_us, boot_ms), *messages]
        return [message.pack(self._encoder) for message in messages]


def _is_place(pose: Pose) -> bool:
    numbers = (pose.latitude_deg, pose.longitude_deg, pose.altitude_m, pose.roll_rad, pose.pitch_rad, pose.yaw_rad)
    is_finite = all(map(math.isfinite, numbers))
    return is_finite and abs(numbers[0]) <= 90 and abs(numbers[1]) <= 180 and abs(numbers[2]) <= _HIGHEST_M
