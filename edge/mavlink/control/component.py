"""What kind of component we are, for those who ask: AUTOPILOT_VERSION and PROTOCOL_VERSION."""

import re
import struct
from typing import Any

from pymavlink.dialects.v20 import common

CAPABILITIES = (
    common.MAV_PROTOCOL_CAPABILITY_MAVLINK2
    | common.MAV_PROTOCOL_CAPABILITY_COMMAND_INT
    | common.MAV_PROTOCOL_CAPABILITY_PARAM_FLOAT
)
"""What we do, and nothing else: no missions, no files, no flying."""
PROTOCOL_VERSION_ID = 300
_VERSION = re.compile(r"(\d{1,3})\.(\d{1,3})\.(\d{1,3})(.*)")
_DEVELOPMENT, _RELEASE = 0, 255
"""FIRMWARE_VERSION_TYPE."""


def autopilot_version(version: str) -> Any:
    """Return AUTOPILOT_VERSION of a program's version, such as 1.2.3; nothing of the machine is told."""
    return common.MAVLink_autopilot_version_message(
        capabilities=CAPABILITIES,
        flight_sw_version=version_number(version),
        middleware_sw_version=0,
        os_sw_version=0,
        board_version=0,
        flight_custom_version=[0] * 8,
        middleware_custom_version=[0] * 8,
        os_custom_version=[0] * 8,
        vendor_id=0,
        product_id=0,
        uid=0,
    )


def version_number(version: str) -> int:
    """Return a version as MAVLink writes it: a byte each, the last one for its kind; 0 of what is none."""
    found = _VERSION.match(version)
    if found is None:
        return 0
    major, minor, patch = (min(int(found[n]), 255) for n in (1, 2, 3))
    return major << 24 | minor << 16 | patch << 8 | (_DEVELOPMENT if found[4] else _RELEASE)


class ProtocolVersion(common.MAVLink_message):  # type: ignore[misc]
    """PROTOCOL_VERSION, which pymavlink's common.xml lacks: MAVLink 2, and no other."""

    id = PROTOCOL_VERSION_ID
    msgname = "PROTOCOL_VERSION"
    crc_extra = 217
    fieldnames = ("version", "min_version", "max_version", "spec_version_hash", "library_version_hash")
    ordered_fieldnames = fieldnames
    fieldtypes = ("uint16_t", "uint16_t", "uint16_t", "uint8_t", "uint8_t")
    array_lengths = (0, 0, 0, 8, 8)
    unpacker = struct.Struct("<HHH8B8B")

    def __init__(self) -> None:
        super().__init__(self.id, self.msgname)
        self.version = self.min_version = self.max_version = 200
        self.spec_version_hash = self.library_version_hash = bytes(8)
