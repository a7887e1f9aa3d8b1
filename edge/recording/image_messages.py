"""Frames as Foxglove's own image messages (Protocol Buffers), the wire header in a field that Foxglove does not know.

The pixels are the last field, so that they are not copied to be stored.
"""

import functools

from edge.recording.protobuf import Buffer, Field, Type, block, block_head, blocks, described_file, fixed32, integer
from edge.transport.messages import Kind
from edge.transport.wire import Header

_WIRE_HEADER = 100
_TIMESTAMP_FILE = "google/protobuf/timestamp.proto"
_TIMESTAMP = ".google.protobuf.Timestamp"
_SECOND_NS = 1_000_000_000
_COMPRESSED = (
    Field(number=1, name="timestamp", type=Type.MESSAGE, message=_TIMESTAMP),
    Field(number=4, name="frame_id", type=Type.STRING),
    Field(number=2, name="data", type=Type.BYTES),
    Field(number=3, name="format", type=Type.STRING),
    Field(number=_WIRE_HEADER, name="wire_header", type=Type.BYTES),
)
_RAW = (
    Field(number=1, name="timestamp", type=Type.MESSAGE, message=_TIMESTAMP),
    Field(number=7, name="frame_id", type=Type.STRING),
    Field(number=2, name="width", type=Type.FIXED32),
    Field(number=3, name="height", type=Type.FIXED32),
    Field(number=4, name="encoding", type=Type.STRING),
    Field(number=5, name="step", type=Type.FIXED32),
    Field(number=6, name="data", type=Type.BYTES),
    Field(number=_WIRE_HEADER, name="wire_header", type=Type.BYTES),
)
_FIELDS = {Kind.ENCODED_FRAME: ("CompressedImage", _COMPRESSED), Kind.FRAME: ("RawImage", _RAW)}
_DATA = {Kind.ENCODED_FRAME: 2, Kind.FRAME: 6}
_UINT8 = 1
_ENCODINGS = {1: "mono8", 3: "bgr8"}


@functools.cache
def image_schema(kind: Kind) -> bytes:
    """Return the FileDescriptorSet of a kind of image."""
    name, fields = _FIELDS[kind]
    time_fields = (
        Field(number=1, name="seconds", type=Type.INT64),
        Field(number=2, name="nanos", type=Type.INT32),
    )
    return described_file(_TIMESTAMP_FILE, "google.protobuf", "Timestamp", time_fields) + described_file(
        f"foxglove/{name}.proto", "foxglove", name, fields, [_TIMESTAMP_FILE]
    )


def encode_image(
    stream: str, header: Header, header_bytes: Buffer, payload: Buffer, utc_ns: int
) -> tuple[Buffer, Buffer]:
    """Return what stands before the pixels, and the pixels.

    Args:
        stream: name, for `frame_id`.
        header: of the message, FRAME or ENCODED_FRAME.
        header_bytes: the same as it came over the wire.
        payload: pixels, or an image file.
        utc_ns: capture time, at least 0.
    """
    seconds, ns = divmod(utc_ns, _SECOND_NS)
    about = block(_WIRE_HEADER, bytes(header_bytes)) + block(1, integer(1, seconds) + integer(2, ns))
    kind = Kind(header.kind)
    if kind == Kind.ENCODED_FRAME:
        about += block(4, stream.encode()) + block(3, _image_format(payload).encode())
    else:
        encoding = _ENCODINGS.get(header.dim2, "unknown") if header.dtype == _UINT8 else "unknown"
        step = header.dim1 * header.dim2
        about += block(7, stream.encode()) + fixed32(2, header.dim1) + fixed32(3, header.dim0)
        about += block(4, encoding.encode()) + fixed32(5, step)
    return about + block_head(_DATA[kind], len(payload)), payload


def decode_image(kind: Kind, data: memoryview) -> tuple[bytes, bytes]:
    """Return wire header and payload; ValueError where the bytes are no such message."""
    found = dict(blocks(data))
    if _WIRE_HEADER not in found or _DATA[kind] not in found:
        raise ValueError("no wire header or no data in it")
    return bytes(found[_WIRE_HEADER]), bytes(found[_DATA[kind]])


def _image_format(payload: Buffer) -> str:
    start = bytes(payload[:4])
    if start.startswith(b"\xff\xd8"):
        return "jpeg"
    return "png" if start == b"\x89PNG" else "unknown"
