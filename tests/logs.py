"""Logs of vehicles, written byte by byte: ArduPilot's, PX4's, and those of ground stations."""

import struct
from collections.abc import Sequence
from typing import Any

from pymavlink.dialects.v20 import ardupilotmega

UTC_S = 1_700_000_000
"""When the logs below begin."""
ULOG_FORMATS = (
    "vehicle_global_position:uint64_t timestamp;double lat;double lon;float alt;",
    "vehicle_attitude:uint64_t timestamp;float[4] q;",
    "vehicle_gps_position:uint64_t timestamp;uint64_t time_utc_usec;int32_t lat;int32_t lon;int32_t alt;"
    "uint8_t fix_type;",
)

GPS_KIND, ATTITUDE_KIND = 130, 131
WEEK, WEEK_MS = 2200, 1_000_000


def dataflash_format(kind: int, length: int, name: bytes, letters: bytes, columns: bytes) -> bytes:
    return b"\xa3\x95\x80" + struct.pack("<BB4s16s64s", kind, length, name, letters, columns)


def dataflash_gps(
    time_s: float, altitude_m: float, status: int = 3, latitude_deg: float = 47.0, week: int = WEEK
) -> bytes:
    """Return a fix; the letter L is a latitude or longitude in 1e-7 degrees."""
    fields = (round(time_s * 1e6), status, WEEK_MS, week, round(latitude_deg * 1e7), 85_000_000, altitude_m)
    return b"\xa3\x95" + struct.pack("<BQBIHiif", GPS_KIND, *fields)


def dataflash_attitude(time_s: float, roll_deg: float) -> bytes:
    return b"\xa3\x95" + struct.pack("<BQfff", ATTITUDE_KIND, round(time_s * 1e6), roll_deg, 0.0, 90.0)


def dataflash(messages: Sequence[bytes]) -> bytes:
    head = dataflash_format(128, 89, b"FMT", b"BBnNZ", b"Type,Length,Name,Format,Columns")
    head += dataflash_format(GPS_KIND, 30, b"GPS", b"QBIHLLf", b"TimeUS,Status,GMS,GWk,Lat,Lng,Alt")
    head += dataflash_format(ATTITUDE_KIND, 23, b"ATT", b"Qfff", b"TimeUS,Roll,Pitch,Yaw")
    return head + b"".join(messages)


def _ulog_message(kind: str, content: bytes) -> bytes:
    return struct.pack("<HB", len(content), ord(kind)) + content


def ulog_position(time_s: float, altitude_m: float, latitude_deg: float = 47.0) -> bytes:
    data = struct.pack("<HQddf", 0, round(time_s * 1e6), latitude_deg, 8.5, altitude_m)
    return _ulog_message("D", data)


def ulog_attitude(time_s: float, q: Sequence[float]) -> bytes:
    return _ulog_message("D", struct.pack("<HQ4f", 1, round(time_s * 1e6), *q))


def ulog_gps(time_s: float, fix_type: int, latitude_deg: float = 47.0) -> bytes:
    utc_us = UTC_S * 1_000_000 + round(time_s * 1e6)
    place = (round(latitude_deg * 1e7), 85_000_000, 400_000)
    return _ulog_message("D", struct.pack("<HQQiiiB", 2, round(time_s * 1e6), utc_us, *place, fix_type))


def ulog(messages: Sequence[bytes], formats: Sequence[str] = ULOG_FORMATS) -> bytes:
    head = b"ULog\x01\x125\x01" + struct.pack("<Q", 0)
    head += _ulog_message("B", bytes(40))
    head += b"".join(_ulog_message("F", text.encode()) for text in formats)
    head += b"".join(
        _ulog_message("A", struct.pack("<BH", 0, n) + text.partition(":")[0].encode()) for n, text in enumerate(formats)
    )
    return head + b"".join(messages)


class TelemetryLog:
    """Frames of one vehicle as a ground station logs them."""

    def __init__(self) -> None:
        self._vehicle = ardupilotmega.MAVLink(None, srcSystem=1, srcComponent=1)
        self.data = b""
        self.frames = 0

    def add(self, time_s: float, message: Any) -> bytes:
        """Log a message that arrived so long after UTC_S; return its frame."""
        frame = bytes(message.pack(self._vehicle))
        self._vehicle.seq = (self._vehicle.seq + 1) % 256
        self.data += struct.pack(">Q", UTC_S * 1_000_000 + round(time_s * 1e6)) + frame
        self.frames += 1
        return frame

    def add_heartbeat(self, time_s: float) -> bytes:
        return self.add(time_s, ardupilotmega.MAVLink_heartbeat_message(2, 3, 0, 0, 4, 3))

    def add_gps(self, time_s: float, fix_type: int) -> bytes:
        numbers = [round(time_s * 1e6), fix_type, 470_000_000, 85_000_000, 400_000, 0, 0, 0, 0, 9]
        return self.add(time_s, ardupilotmega.MAVLink_gps_raw_int_message(*numbers))

    def add_position(self, time_s: float, altitude_m: float, delay_s: float = 0.0, latitude_deg: float = 47.0) -> bytes:
        """Log a position of a time, that arrived later."""
        place = [round(latitude_deg * 1e7), 85_000_000, round(altitude_m * 1e3)]
        message = ardupilotmega.MAVLink_global_position_int_message(round(time_s * 1e3), *place, 0, 0, 0, 0, 0)
        return self.add(time_s + delay_s, message)

    def add_attitude(self, time_s: float, roll_rad: float) -> bytes:
        return self.add(time_s, ardupilotmega.MAVLink_attitude_message(round(time_s * 1e3), roll_rad, 0, 0, 0, 0, 0))

    def add_system_time(self, time_s: float, utc_s: float) -> bytes:
        message = ardupilotmega.MAVLink_system_time_message(round((UTC_S + utc_s) * 1e6), round(time_s * 1e3))
        return self.add(time_s, message)


def telemetry(positions: int, fix_type: int = 3) -> TelemetryLog:
    """Return a log of a climbing vehicle: a fix, a position, an attitude and the time, 5 times a second."""
    log = TelemetryLog()
    for n in range(positions):
        time_s = 1.0 + n / 5
        log.add_gps(time_s, fix_type)
        log.add_position(time_s + 0.01, 400.0 + n / 5)
        log.add_attitude(time_s + 0.02, 0.01 * n)
        log.add_system_time(time_s + 0.03, time_s + 0.03)
    return log
