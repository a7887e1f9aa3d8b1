"""The little of Protocol Buffers that Foxglove's images need: fields in, fields out, and what describes a message.

Source: protobuf.dev/programming-guides/encoding; field numbers of google/protobuf/descriptor.proto.
"""

import enum
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

Buffer = bytes | bytearray | memoryview
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_OPTIONAL = 1


class Type(enum.IntEnum):
    """Of a field, as a descriptor says it."""

    INT64 = 3
    INT32 = 5
    FIXED32 = 7
    STRING = 9
    MESSAGE = 11
    BYTES = 12


@dataclass(frozen=True, kw_only=True, slots=True)
class Field:
    """One field of a message."""

    number: int
    name: str
    type: Type
    message: str = ""
    """Full name of what it is, with a leading dot; of type MESSAGE alone."""


def integer(number: int, value: int) -> bytes:
    """Return a field of an integer, at least 0."""
    return _varint(number << 3 | _VARINT) + _varint(value)


def fixed32(number: int, value: int) -> bytes:
    """Return a field of an unsigned integer of 32 bits."""
    return _varint(number << 3 | _FIXED32) + value.to_bytes(4, "little")


def block_head(number: int, size_bytes: int) -> bytes:
    """Return what stands before the bytes of a field of text, bytes or a message."""
    return _varint(number << 3 | _BYTES) + _varint(size_bytes)


def block(number: int, data: bytes) -> bytes:
    """Return a field of text, bytes or a message."""
    return block_head(number, len(data)) + data


def blocks(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Yield number and content of each field of text, bytes or a message; ValueError where it is not well formed."""
    position = 0
    while position < len(message):
        key, position = _read_varint(message, position)
        kind = key & 7
        if kind == _VARINT:
            _, position = _read_varint(message, position)
            continue
        sizes = {_FIXED64: 8, _FIXED32: 4}
        size, position = _read_varint(message, position) if kind == _BYTES else (sizes.get(kind, -1), position)
        if size < 0 or position + size > len(message):
            raise ValueError(f"field {key >> 3} of kind {kind} runs over the end")
        if kind == _BYTES:
            yield key >> 3, message[position : position + size]
        position += size


def described_file(
    name: str, package: str, message: str, fields: Sequence[Field], imports: Sequence[str] = ()
) -> bytes:
    """Return a FileDescriptorProto of one message, as a field of a FileDescriptorSet."""
    body = block(1, message.encode()) + b"".join(block(2, _described(field)) for field in fields)
    imported = b"".join(block(3, path.encode()) for path in imports)
    file = block(1, name.encode()) + block(2, package.encode()) + imported + block(4, body) + block(12, b"proto3")
    return block(1, file)


def _described(field: Field) -> bytes:
    message = block(6, field.message.encode()) if field.message else b""
    label = integer(3, field.number) + integer(4, _OPTIONAL) + integer(5, field.type)
    return block(1, field.name.encode()) + label + message


def _varint(value: int) -> bytes:
    data = bytearray()
    while value > 0x7F:
        data.append(value & 0x7F | 0x80)
        value >>= 7
    data.append(value)
    return bytes(data)


def _read_varint(data: memoryview, position: int) -> tuple[int, int]:
    """Return a number and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(data):
            break
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ValueError(f"no number at {position}")
