"""How each row of the topic table is stored in MCAP, and read back. Foxglove opens every channel as it is.

Format 2: I/Q is the 64-byte wire header and the samples (`raw`); frames are Foxglove's image messages (`protobuf`),
poses its JSON, with what they lack in extra fields; the rest is JSON of the messages in `edge.transport.messages`. In
format 1 raw frames were stored as I/Q is, and encoded ones as Foxglove's JSON.
"""

import functools
import json
import re
from typing import Any

import msgspec

from edge.recording.image_messages import decode_image, encode_image, image_schema
from edge.transport.messages import (
    TOPICS,
    Classification,
    Kind,
    Message,
    PipelineStatus,
    Pose,
    RecorderStatus,
    Trace,
    Truth,
)
from edge.transport.wire import HEADER_BYTES, Header, Reason, decode_header
from models.errors import RecordingError

FORMAT = 2
PROFILE = "uav-edge"
METADATA_NAME = "uav.recording"
IDENTITY = ("format", "utc_offset_ns")
"""What the metadata of a file and of each channel say for its reader."""
SENSOR_KINDS = frozenset({Kind.IQ, Kind.FRAME, Kind.ENCODED_FRAME})
MODALITY_HINTS = {Kind.IQ: "iq", Kind.FRAME: "image", Kind.ENCODED_FRAME: "image"}
MESSAGE_TYPES: dict[Kind, Any] = {
    Kind.CLASSIFICATION: Classification,
    Kind.STATUS: PipelineStatus,
    Kind.POSE: Pose,
    Kind.TRUTH: Truth,
    Kind.TRACE: Trace,
}
MESSAGE_KINDS: dict[Any, Kind] = {type_: kind for kind, type_ in MESSAGE_TYPES.items()} | {
    RecorderStatus: Kind.RECORDER
}
STREAM_NAME_RULE = "1 to 64 letters, digits, _, . or -, not dots alone, and no topic's name"
_STREAM_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_TOPIC_NAMES = frozenset(topic.channel.strip("/") for topic in TOPICS.values() if "{id}" not in topic.channel)
_MAX_TIME_NS = (1 << 63) - 1
_SECOND_NS = 1_000_000_000

Buffer = bytes | bytearray | memoryview


class _Time(msgspec.Struct, frozen=True, kw_only=True):
    """Foxglove's time, UTC."""

    sec: int
    nsec: int


class _OldCompressedImage(msgspec.Struct, frozen=True, kw_only=True):
    """Of format 1's foxglove.CompressedImage what is read."""

    header: bytes
    data: bytes


class _LocationFix(msgspec.Struct, frozen=True, kw_only=True):
    """foxglove.LocationFix, and the attitude and capture time of a `Pose`."""

    timestamp: _Time
    frame_id: str
    latitude: float
    longitude: float
    altitude: float
    capture_ns: int
    roll_rad: float
    pitch_rad: float
    yaw_rad: float
    position_covariance: tuple[float, ...] = (0.0,) * 9
    position_covariance_type: int = 0


_STORED: dict[Kind, type[msgspec.Struct]] = {
    Kind.CLASSIFICATION: Classification,
    Kind.STATUS: PipelineStatus,
    Kind.POSE: _LocationFix,
    Kind.TRUTH: Truth,
    Kind.RECORDER: RecorderStatus,
    Kind.TRACE: Trace,
}
_ENCODER = msgspec.json.Encoder()
_DECODERS: dict[Kind, msgspec.json.Decoder[Any]] = {kind: msgspec.json.Decoder(to) for kind, to in _STORED.items()}
_OLD_IMAGE_DECODER = msgspec.json.Decoder(_OldCompressedImage)
_IMAGE_KINDS = frozenset({Kind.FRAME, Kind.ENCODED_FRAME})
_OLD_FRAME_SCHEMA = "uav.Frame"


def stream_name(kind: Kind, stream: str) -> str:
    """Return the name under which a recording lists a channel: sensors by their stream, the rest by their topic."""
    return stream if kind in SENSOR_KINDS else TOPICS[kind].channel.format(id=stream).strip("/")


def is_stream_name(name: str) -> bool:
    """Say whether a sensor's stream may have a name, see STREAM_NAME_RULE."""
    return _STREAM_NAME.fullmatch(name) is not None and bool(name.strip(".")) and name not in _TOPIC_NAMES


def schema_of(kind: Kind) -> tuple[str, str, bytes]:
    """Return name, encoding and data of the schema of a channel's messages; of raw ones the name alone."""
    name = TOPICS[kind].schema
    if kind in _IMAGE_KINDS:
        return name, "protobuf", image_schema(kind)
    return (name, "jsonschema", _json_schema(_STORED[kind])) if kind in _STORED else (name, "", b"")


def is_schema(kind: Kind, name: str, version: int) -> bool:
    """Say whether a channel of a format may have a schema of this name."""
    return name == (_OLD_FRAME_SCHEMA if kind == Kind.FRAME and version == 1 else TOPICS[kind].schema)


def utc_ns(time_ns: int, utc_offset_ns: int) -> int:
    """Return a monotonic time as UTC, held within what MCAP can store (a faulty source may claim any time)."""
    return min(max(time_ns + utc_offset_ns, 0), _MAX_TIME_NS)


def encode_sensor(
    stream: str, header: Header, header_bytes: Buffer, payload: Buffer, utc_offset_ns: int
) -> tuple[Buffer, ...]:
    """Return the parts that a message of a sensor is stored as."""
    if header.kind not in _IMAGE_KINDS:
        return header_bytes, payload
    return encode_image(stream, header, header_bytes, payload, utc_ns(header.capture_ns, utc_offset_ns))


def encode_message(message: Message, utc_offset_ns: int) -> bytes:
    """Return the JSON that a message of the pipeline is stored as."""
    if isinstance(message, Classification) and message.pose is None:
        return _ENCODER.encode(msgspec.structs.replace(message, pose=msgspec.UNSET))  # null is no pose by its schema
    if isinstance(message, PipelineStatus) and message.is_last is None:
        return _ENCODER.encode(msgspec.structs.replace(message, is_last=msgspec.UNSET))
    if not isinstance(message, Pose):
        return _ENCODER.encode(message)
    fix = _LocationFix(
        timestamp=_time(utc_ns(message.capture_ns, utc_offset_ns)),
        frame_id="vehicle",
        latitude=message.latitude_deg,
        longitude=message.longitude_deg,
        altitude=message.altitude_m,
        capture_ns=message.capture_ns,
        roll_rad=message.roll_rad,
        pitch_rad=message.pitch_rad,
        yaw_rad=message.yaw_rad,
    )
    return _ENCODER.encode(fix)


def decode_sensor(kind: Kind, data: memoryview, version: int = FORMAT) -> tuple[Header, bytes]:
    """Return header and payload of a sensor's message, stored in some format, as they came over the wire.

    Raises:
        RecordingError: the bytes are not such a message.
    """
    header_bytes: Buffer
    if kind not in _IMAGE_KINDS or (kind == Kind.FRAME and version == 1):
        header_bytes, payload = data[:HEADER_BYTES], bytes(data[HEADER_BYTES:])
    else:
        header_bytes, payload = _decode_image(kind, data, version)
    header = decode_header(bytes(header_bytes))
    if isinstance(header, Reason):
        raise RecordingError(f"{kind.name} message with an unusable header ({header})")
    return header, payload


def decode_message(kind: Kind, data: memoryview) -> Message:
    """Return a message of the pipeline; raises as `decode_sensor`."""
    stored = _decode(kind, data)
    if not isinstance(stored, _LocationFix):
        message: Message = stored
        return message
    return Pose(
        capture_ns=stored.capture_ns,
        latitude_deg=stored.latitude,
        longitude_deg=stored.longitude,
        altitude_m=stored.altitude,
        roll_rad=stored.roll_rad,
        pitch_rad=stored.pitch_rad,
        yaw_rad=stored.yaw_rad,
    )


def _decode_image(kind: Kind, data: memoryview, version: int) -> tuple[bytes, bytes]:
    try:
        if version > 1:
            return decode_image(kind, data)
        image = _OLD_IMAGE_DECODER.decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise RecordingError(f"{kind.name} message is not what its schema says ({error})") from error
    return image.header, image.data


def _decode(kind: Kind, data: memoryview) -> Any:
    try:
        return _DECODERS[kind].decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:  # ValueError: text that is no UTF-8
        raise RecordingError(f"{kind.name} message is not what its schema says ({error})") from error


def _time(time_ns: int) -> _Time:
    sec, nsec = divmod(time_ns, _SECOND_NS)
    return _Time(sec=sec, nsec=nsec)


@functools.cache
def _json_schema(stored: type[msgspec.Struct]) -> bytes:
    """Return a schema without references or unions: viewers plot only what they can resolve at sight."""
    schema = msgspec.json.schema(stored)
    return json.dumps(_resolved(schema, schema.get("$defs", {}))).encode()


def _resolved(node: Any, definitions: dict[str, Any]) -> Any:
    if isinstance(node, list):
        return [_resolved(child, definitions) for child in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        return _resolved(definitions[node["$ref"].rpartition("/")[2]], definitions)
    if "anyOf" in node:
        return _resolved(next(choice for choice in node["anyOf"] if choice != {"type": "null"}), definitions)
    return {key: _resolved(value, definitions) for key, value in node.items() if key not in ("$defs", "prefixItems")}
