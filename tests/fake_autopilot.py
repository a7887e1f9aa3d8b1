"""An autopilot for tests: a clock of its own, a position and an attitude, as messages that a link received."""

import math
from dataclasses import dataclass
from typing import Any

from pymavlink.dialects.v20 import common

from edge.mavlink.network.link import Received
from edge.mavlink.place.whereabouts import Whereabouts

MS = 1_000_000
S = 1_000 * MS
BOOT_NS = 77 * S
"""What the autopilot's clock says when ours says 0."""
UTC_US = 1_790_000_000_000_000
"""UTC when the autopilot's clock says 0."""
RTT_NS = 4 * MS


@dataclass(kw_only=True, slots=True)
class FakeAutopilot:
    """Hovers 100 m above where it took off, at 500 m, heading north; all that can be changed."""

    system_id: int = 1
    component_id: int = 1
    link: int = 0
    boot_ns: int = BOOT_NS
    utc_us: int = UTC_US
    """0: it does not know the date."""
    heading_deg: float = 0.0
    rtt_ns: int = RTT_NS

    def say(self, whereabouts: Whereabouts, now_ns: int, *messages: Any) -> None:
        """Let messages of it arrive."""
        items = [
            Received(
                system_id=self.system_id, component_id=self.component_id, sequence=0, name=message.get_type(),
                message=message,
            )
            for message in messages
        ]  # fmt: skip
        whereabouts.on_received(self.link, items, now_ns)

    def boot_ms(self, now_ns: int) -> int:
        return (now_ns + self.boot_ns) // MS % (1 << 32)

    def heartbeat(self) -> Any:
        return common.MAVLink_heartbeat_message(
            common.MAV_TYPE_QUADROTOR, common.MAV_AUTOPILOT_ARDUPILOTMEGA, 0, 0, common.MAV_STATE_ACTIVE, 3
        )

    def system_time(self, now_ns: int) -> Any:
        unix_us = self.utc_us + (now_ns + self.boot_ns) // 1000 if self.utc_us else 0
        return common.MAVLink_system_time_message(unix_us, self.boot_ms(now_ns))

    def attitude(self, now_ns: int) -> Any:
        return common.MAVLink_attitude_message(
            self.boot_ms(now_ns), 0.0, 0.0, math.radians(self.heading_deg), 0.0, 0.0, 0.0
        )

    def position(self, now_ns: int) -> Any:
        return common.MAVLink_global_position_int_message(
            self.boot_ms(now_ns), 470_000_000, 80_000_000, 500_000, 100_000, 0, 0, 0, 0
        )

    def gimbal(self, now_ns: int, q: tuple[float, float, float, float], flags: int) -> Any:
        return common.MAVLink_gimbal_device_attitude_status_message(
            0, 0, self.boot_ms(now_ns), flags, list(q), 0.0, 0.0, 0.0, 0
        )

    def fix(self, fix_type: int = common.GPS_FIX_TYPE_3D_FIX, h_acc_m: float = 0.0) -> Any:
        return common.MAVLink_gps_raw_int_message(
            0, fix_type, 470_000_000, 80_000_000, 500_000, 0xFFFF, 0xFFFF, 0, 0, 0, 0, round(h_acc_m * 1000)
        )

    def answers(self, whereabouts: Whereabouts, now_ns: int) -> int:
        """Answer what it is asked about the time at once; return how many times it was."""
        asked = [message for link, message in whereabouts.autopilots.take(now_ns) if link == self.link]
        for question in asked:
            tc1 = now_ns + self.rtt_ns // 2 + self.boot_ns
            self.say(whereabouts, now_ns + self.rtt_ns, common.MAVLink_timesync_message(tc1=tc1, ts1=question.ts1))
        return len(asked)

    def fly(self, whereabouts: Whereabouts, begin_ns: int, seconds: float, *, telemetry: bool = True) -> int:
        """Live for a while, in steps of 100 ms; return the time then."""
        end_ns, now_ns = begin_ns + round(seconds * S), begin_ns
        while now_ns < end_ns:
            if (now_ns - begin_ns) % S == 0:
                self.say(whereabouts, now_ns, self.heartbeat(), self.system_time(now_ns))
            if telemetry:
                self.say(whereabouts, now_ns, self.attitude(now_ns), self.position(now_ns))
            self.answers(whereabouts, now_ns)
            now_ns += 100 * MS
        return now_ns
