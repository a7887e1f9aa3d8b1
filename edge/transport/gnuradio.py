"""What GNU Radio's ZeroMQ sinks put before the samples when `pass_tags` is set: an offset and stream tags.

All integers of the header are little-endian: F0 5F, 01, offset of the first item (uint64), number of tags (uint64), and
for each tag its offset (uint64), key, value and source, which are PMTs, GNU Radio's own serialization, big-endian.
Decoding never raises: garbage comes back as a `Reason`.

Source: gr-zeromq and gnuradio-runtime/lib/pmt of github.com/gnuradio/gnuradio, as GNU Radio 3.10 sends it.
"""

import struct
from typing import NamedTuple

from edge.transport.wire import Reason

HEADER_BYTES = 19
"""Of a header without tags."""
MAX_TAGS = 4096
"""A radio tags a few samples a second; this many in one message is a broken header."""
MAX_HEADER_BYTES = 1 << 18
"""A longer one is refused: it would take longer to read than its samples to come."""
MAX_VALUES = 8
"""Kept of one tag; a time has two."""
_MAGIC, _VERSION = 0x5FF0, 1
_HEADER = struct.Struct("<HBQQ")
_OFFSET = struct.Struct("<Q")
_LENGTH16, _LENGTH32 = struct.Struct(">H"), struct.Struct(">I")
_UNIFORM = struct.Struct(">BIB")
_LEAST_TAG_BYTES = 11

_SYMBOL, _UNIFORM_VECTOR = 0x02, 0x0A
_PAIRS, _ROWS = (0x07, 0x09), (0x08, 0x0C)
"""Pair and dictionary: two values follow. Vector and tuple: a number of values (uint32), and these."""
_CONSTANTS: dict[int, bool | None] = {0x00: True, 0x01: False, 0x06: None}
_NUMBERS = {
    0x03: struct.Struct(">i"),
    0x04: struct.Struct(">d"),
    0x05: struct.Struct(">dd"),
    0x0B: struct.Struct(">Q"),
    0x0D: struct.Struct(">q"),
}
_ITEM_BYTES = (1, 1, 2, 2, 4, 4, 8, 8, 4, 8, 8, 16)
"""Of uniform vectors: 8 to 64 bit integers, unsigned and signed, then float, double and the two complex types."""

Value = bool | int | float | str | None


class Tag(NamedTuple):
    """One stream tag."""

    offset: int
    """Item that it belongs to, counted as in the header."""
    key: str
    values: tuple[Value, ...]
    """The value's plain parts in a row, at most MAX_VALUES: ("rx_time", (seconds, fraction)); vectors are left out."""


class TaggedHeader(NamedTuple):
    """What stands before the samples of a message."""

    offset: int
    """Of the message's first item, counted from the start of the flowgraph."""
    tags: tuple[Tag, ...]
    payload_at: int
    """Byte at which the samples begin, at no particular alignment."""


class _MalformedError(Exception):
    """The bytes end too early, or are no PMT."""


def decode_tagged(message: bytes | memoryview) -> TaggedHeader | Reason:
    """Return the header of a message of a sink with `pass_tags`, or why it has none."""
    if len(message) < HEADER_BYTES:
        return Reason.SHORT_HEADER
    magic, version, offset, tags = _HEADER.unpack_from(message)
    if magic != _MAGIC:
        return Reason.MAGIC
    if version != _VERSION:
        return Reason.VERSION
    if tags == 0:
        return TaggedHeader(offset, (), HEADER_BYTES)
    if tags > MAX_TAGS or tags * _LEAST_TAG_BYTES > len(message) - HEADER_BYTES:
        return Reason.TOO_LARGE
    found = []
    at = HEADER_BYTES
    head = message[:MAX_HEADER_BYTES]
    try:
        for _ in range(tags):
            tag, at = _tag(head, at)
            found.append(tag)
    except (struct.error, _MalformedError):
        return Reason.DECODE
    return TaggedHeader(offset, tuple(found), at)


def _tag(data: bytes | memoryview, at: int) -> tuple[Tag, int]:
    (offset,) = _OFFSET.unpack_from(data, at)
    key, at = _pmt(data, at + _OFFSET.size)
    values, at = _pmt(data, at)
    _, at = _pmt(data, at)
    if len(key) != 1 or not isinstance(key[0], str):
        raise _MalformedError
    return Tag(offset, key[0], tuple(values)), at


def _pmt(data: bytes | memoryview, at: int) -> tuple[list[Value], int]:
    """Return the plain values of one PMT, in the order of the bytes, and where it ends.

    It counts what is still to come instead of calling itself, so that no nesting exhausts the stack.
    """
    values: list[Value] = []
    pending = 1
    while pending:
        if at + pending > len(data):  # each takes at least a byte
            raise _MalformedError
        code = data[at]
        at += 1
        pending -= 1
        if code in _PAIRS:
            pending += 2
        elif code in _ROWS:
            pending += _LENGTH32.unpack_from(data, at)[0]
            at += _LENGTH32.size
        elif code == _UNIFORM_VECTOR:
            at = _after_vector(data, at)
        else:
            plain, at = _plain(code, data, at)
            values.extend(plain[: MAX_VALUES - len(values)])
    return values, at


def _plain(code: int, data: bytes | memoryview, at: int) -> tuple[tuple[Value, ...], int]:
    """Return the number, text or constant that follows its code, and where it ends."""
    if code in _CONSTANTS:
        return (_CONSTANTS[code],), at
    if code == _SYMBOL:
        begin = at + _LENGTH16.size
        end = begin + _LENGTH16.unpack_from(data, at)[0]
        if end > len(data):
            raise _MalformedError
        return (bytes(data[begin:end]).decode(errors="replace"),), end
    number = _NUMBERS.get(code)
    if number is None:
        raise _MalformedError
    return number.unpack_from(data, at), at + number.size


def _after_vector(data: bytes | memoryview, at: int) -> int:
    """Return where a uniform vector ends: its type, number of items and padding stand first."""
    kind, items, padding = _UNIFORM.unpack_from(data, at)
    if kind >= len(_ITEM_BYTES):
        raise _MalformedError
    end = at + _UNIFORM.size + int(padding) + int(items) * _ITEM_BYTES[kind]
    if end > len(data):
        raise _MalformedError
    return end
