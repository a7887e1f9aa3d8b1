"""The wire format: a fixed 64-byte header, then the raw buffer, as two ZeroMQ parts.

Decoding never raises: garbage comes back as a `Reason`, to be counted where it arrived.
"""

import enum
import struct
import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge.transport.messages import Kind

MAGIC = b"UAVF"
VERSION = 1
HEADER_BYTES = 64
FLAG_CRC = 1
"""The header's crc32 covers the payload."""
FLAG_HOST_TIME = 2
"""Capture time was taken by the host on arrival, not by the sensor."""
FLAG_REPLAY = 4
"""Comes from a recording."""
FLAG_RING = 8
"""The second part is not the payload, but a note that tells where in shared memory it is, see edge.transport.ring."""

_HEADER = struct.Struct("<4sBBHHBBIIIqqIHHfId")
_DTYPES: dict[int, Any] = {1: np.uint8, 2: np.int8, 3: np.int16, 4: np.float32}
_ITEM_BYTES = {0: 1, 1: 1, 2: 1, 3: 2, 4: 4}
_CODES = {np.dtype(dtype): code for code, dtype in _DTYPES.items()}
_KINDS = frozenset(int(kind) for kind in Kind)
_NDIMS = {int(Kind.IQ): 2, int(Kind.FRAME): 3}


class Reason(str, enum.Enum):
    """Why a message or its content was refused; the value is the name in counters, logs and results."""

    PARTS = "wrong_parts"
    SHORT_HEADER = "short_header"
    MAGIC = "bad_magic"
    VERSION = "wrong_version"
    KIND = "wrong_kind"
    DIMS = "wrong_dims"
    SIZE = "wrong_size"
    CRC = "bad_crc"
    TIME = "bad_time"
    DECODE = "undecodable"
    TOO_LARGE = "too_large"
    BROKEN_CONNECTION = "broken_connection"
    NOTE = "bad_note"
    RING = "no_ring"
    OVERWRITTEN = "overwritten"
    """Came too late to what shared memory held. Nobody's fault: counted as superseded, and no sensor is masked."""
    SHORT_WINDOW = "short_window"
    SAMPLE_RATE = "wrong_sample_rate"
    NON_FINITE = "non_finite"
    ALL_ZERO = "all_zero"
    CLIPPED = "clipped"
    DC_ONLY = "dc_only"
    FROZEN = "frozen"
    BLACK = "black"
    OVEREXPOSED = "overexposed"
    FLAT = "flat"
    BLURRED = "blurred"
    ENGINE = "engine_failed"

    def __str__(self) -> str:
        return self.value


class Header(NamedTuple):
    """The 64 bytes in front of every payload."""

    magic: bytes
    version: int
    kind: int
    flags: int
    stream_id: int
    dtype: int
    """0 for bytes (an encoded frame, msgpack), else 1 uint8, 2 int8, 3 int16, 4 float32."""
    ndim: int
    epoch: int
    """Changes when the source restarts: sequence numbers begin anew."""
    sequence: int
    payload_bytes: int
    capture_ns: int
    """Of the first sample or the exposure, CLOCK_MONOTONIC of the board."""
    send_ns: int
    dim0: int
    dim1: int
    dim2: int
    sample_rate_hz: float
    crc32: int
    centre_hz: float

    @property
    def dims(self) -> tuple[int, ...]:
        """Shape of the payload."""
        return (self.dim0, self.dim1, self.dim2)[: self.ndim]

    def captured(self, capture_ns: int) -> "Header":
        """Return this header with another capture time; twice as fast as `_replace`, and without its garbage."""
        return Header._make((*self[:_CAPTURE], capture_ns, *self[_CAPTURE + 1 :]))


_CAPTURE = Header._fields.index("capture_ns")


class Stamp(NamedTuple):
    """What a source says about one message besides its content."""

    stream_id: int
    epoch: int
    sequence: int
    capture_ns: int
    send_ns: int
    flags: int = 0
    sample_rate_hz: float = 0.0
    centre_hz: float = 0.0


def encode_array(kind: Kind, stamp: Stamp, array: NDArray[Any], *, with_crc: bool = False) -> tuple[bytes, memoryview]:
    """Return header and payload of an I/Q block (samples, 2) or a frame (height, width, 3); nothing is copied.

    Raises:
        ValueError: more than 3 dimensions, not contiguous, or an element type that the wire does not know.
    """
    code = _CODES.get(array.dtype)
    if code is None or not 1 <= array.ndim <= 3 or not array.flags.c_contiguous:
        raise ValueError(f"array of type {array.dtype}, shape {array.shape}: wants contiguous uint8/int8/int16/float32")
    payload = array.reshape(-1).view(np.uint8).data
    return _header(kind, stamp, code, array.shape, payload, with_crc), payload


def encode_bytes(kind: Kind, stamp: Stamp, payload: bytes, *, with_crc: bool = False) -> tuple[bytes, bytes]:
    """Return header and payload of an encoded frame or a msgpack message."""
    return _header(kind, stamp, 0, (), payload, with_crc), payload


def _header(
    kind: Kind, stamp: Stamp, dtype: int, dims: tuple[int, ...], payload: bytes | memoryview, with_crc: bool
) -> bytes:
    stream_id, epoch, sequence, capture_ns, send_ns, flags, sample_rate_hz, centre_hz = stamp
    size = len(payload)
    crc = zlib.crc32(payload) if with_crc else 0
    flags = flags | FLAG_CRC if with_crc else flags
    ndim = len(dims)
    dim0, dim1, dim2 = (*dims, 0, 0, 0)[:3]
    return _HEADER.pack(
        MAGIC, VERSION, kind, flags, stream_id, dtype, ndim, epoch, sequence, size,
        capture_ns, send_ns, dim0, dim1, dim2, sample_rate_hz, crc, centre_hz,
    )  # fmt: skip


def decode_header(data: bytes | memoryview) -> Header | Reason:
    """Return the header, or why these bytes are none. Takes well under a microsecond."""
    if len(data) != HEADER_BYTES:
        return Reason.SHORT_HEADER
    header = Header._make(_HEADER.unpack(data))
    if header.magic != MAGIC:
        return Reason.MAGIC
    if header.version != VERSION:
        return Reason.VERSION
    if header.kind not in _KINDS:
        return Reason.KIND
    if header.dtype not in _ITEM_BYTES or header.ndim > 3:
        return Reason.DIMS
    return header


def encode_header(header: Header) -> bytes:
    """Return the 64 bytes that `decode_header` reads back."""
    return _HEADER.pack(*header)


def check_payload(header: Header, payload: bytes | memoryview) -> Reason | None:
    """Return why a payload contradicts its header, or None where they agree."""
    size = len(payload)
    if size != header.payload_bytes:
        return Reason.SIZE
    ndim = _NDIMS.get(header.kind, 0)
    if header.ndim != ndim or (header.dtype == 0) != (ndim == 0):
        return Reason.DIMS
    if ndim:
        items = 1
        for dim in header.dims:
            items *= dim
        if items * _ITEM_BYTES[header.dtype] != size:
            return Reason.SIZE
    if header.flags & FLAG_CRC and zlib.crc32(payload) != header.crc32:
        return Reason.CRC
    return None


def decode_message(parts: Sequence[bytes | memoryview]) -> tuple[Header, bytes | memoryview] | Reason:
    """Return header and payload of a received multipart message, or why it is refused."""
    if len(parts) != 2:
        return Reason.PARTS
    header = decode_header(parts[0])
    if isinstance(header, Reason):
        return header
    if header.flags & FLAG_RING:
        return Reason.RING
    return check_payload(header, parts[1]) or (header, parts[1])


def as_array(header: Header, payload: bytes | memoryview) -> NDArray[Any]:
    """View a checked payload as the array its header describes, without copying."""
    return np.frombuffer(payload, dtype=_DTYPES[header.dtype]).reshape(header.dims)
