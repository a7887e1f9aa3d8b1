"""The messages of common.xml that make the fusion visible in every ground station."""

import math
from typing import Any

from pymavlink.dialects.v20 import common

GROUND_SYSTEM, GROUND_COMPONENT = 255, common.MAV_COMP_ID_MISSIONPLANNER
"""Who a ground station says it is."""
MAX_TEXT_BYTES = 50
NS_PER_MS = 1_000_000
UINT32_MASK = 0xFFFFFFFF


def heartbeat(state: int, mode: int = 0) -> Any:
    """Return the HEARTBEAT of an onboard computer.

    Args:
        state: MAV_STATE.
        mode: of our own, see `publishing.Mode`.
    """
    return common.MAVLink_heartbeat_message(
        type=common.MAV_TYPE_ONBOARD_CONTROLLER,
        autopilot=common.MAV_AUTOPILOT_INVALID,
        base_mode=common.MAV_MODE_FLAG_CUSTOM_MODE_ENABLED,
        custom_mode=mode,
        system_status=state,
        mavlink_version=3,
    )


def ground_heartbeat() -> Any:
    """Return the HEARTBEAT of a ground station."""
    return common.MAVLink_heartbeat_message(
        type=common.MAV_TYPE_GCS,
        autopilot=common.MAV_AUTOPILOT_INVALID,
        base_mode=0,
        custom_mode=0,
        system_status=common.MAV_STATE_ACTIVE,
        mavlink_version=3,
    )


def status_text(severity: int, text: str, subject: str = "") -> Any:
    """Return a STATUSTEXT, in ASCII, cut to the 50 bytes that it holds.

    Args:
        severity: MAV_SEVERITY.
        text: for people.
        subject: what it is about; not sent, but of one subject only the newest text waits for a slow link.
    """
    made = common.MAVLink_statustext_message(severity=severity, text=text.encode("ascii", "replace")[:MAX_TEXT_BYTES])
    made.subject = subject or None
    return made


def named_value(name: str, value: float, now_ns: int) -> Any:
    """Return a NAMED_VALUE_FLOAT; `name` has at most 10 characters."""
    return common.MAVLink_named_value_float_message(
        time_boot_ms=(now_ns // NS_PER_MS) & UINT32_MASK,
        name=name.encode("ascii", "replace")[:10],
        value=min(max(value, -1e30), 1e30) if math.isfinite(value) else math.nan,
    )
