"""The header that GNU Radio's sinks put before samples, checked against bytes that GNU Radio 3.10.5 sent."""

import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edge.transport.gnuradio import HEADER_BYTES, MAX_TAGS, MAX_VALUES, Tag, TaggedHeader, decode_tagged
from edge.transport.wire import Reason

SAMPLES = bytes(range(64))
SOURCE = bytes.fromhex("02000473726330")
TIME = bytes.fromhex("0c000000020b000000006553f100043fd0000000000000")
VALUES = {
    "true": ("00", (True,)),
    "false": ("01", (False,)),
    "nothing": ("06", (None,)),
    "int32": ("03fffffffb", (-5,)),
    "int64": ("0d0000010000000000", (1 << 40,)),
    "uint64": ("0b0000000000000007", (7,)),
    "double": ("043ff8000000000000", (1.5,)),
    "complex": ("053ff00000000000004000000000000000", (1.0, 2.0)),
    "symbol": ("02000368c3a9", ("hé",)),
    "pair": ("070200016b0300000003", ("k", 3)),
    "list": ("07030000000107030000000207030000000306", (1, 2, 3, None)),
    "dictionary": ("090702000162044000000000000000090702000161030000000106", ("b", 2.0, "a", 1, None)),
    "vector": ("080000000203000000010300000001", (1, 1)),
    "tuple": ("0c000000020b0000000000000001043fd0000000000000", (1, 0.25)),
    "bytes": ("0a00000000030100010203", ()),
    "int16 vector": ("0a0200000002010000010002", ()),
    "float vector": ("0a080000000101003f800000", ()),
    "complex vector": ("0a0b0000000101003ff00000000000004000000000000000", ()),
}
"""What `pmt.serialize_str` of GNU Radio 3.10.5 makes of each kind of value."""


def header(offset: int, tags: int) -> bytes:
    return struct.pack("<HBQQ", 0x5FF0, 1, offset, tags)


def tag(offset: int, key: str, value: bytes, source: bytes = SOURCE) -> bytes:
    name = key.encode()
    return struct.pack("<Q", offset) + b"\x02" + struct.pack(">H", len(name)) + name + value + source


def test_a_message_without_tags_has_a_header_of_19_bytes() -> None:
    assert decode_tagged(header(1 << 40, 0) + SAMPLES) == TaggedHeader(1 << 40, (), HEADER_BYTES)


def test_the_time_and_frequency_of_a_radio_are_read() -> None:
    frequency = bytes.fromhex("0441e1e1a300000000")
    message = header(7, 2) + tag(7, "rx_time", TIME) + tag(9, "rx_freq", frequency, b"\x01") + SAMPLES
    decoded = decode_tagged(memoryview(message))
    assert isinstance(decoded, TaggedHeader)
    assert decoded.tags == (Tag(7, "rx_time", (1_700_000_000, 0.25)), Tag(9, "rx_freq", (2.4e9,)))
    assert message[decoded.payload_at :] == SAMPLES


@pytest.mark.parametrize(("encoded", "values"), VALUES.values(), ids=list(VALUES))
def test_every_kind_of_value_is_read_or_stepped_over(encoded: str, values: tuple[object, ...]) -> None:
    message = header(0, 1) + tag(0, "k", bytes.fromhex(encoded)) + SAMPLES
    decoded = decode_tagged(message)
    assert isinstance(decoded, TaggedHeader)
    assert decoded.tags == (Tag(0, "k", values),)
    assert message[decoded.payload_at :] == SAMPLES


def test_of_a_long_list_only_the_first_values_are_kept() -> None:
    numbers = b"".join(b"\x03" + struct.pack(">i", n) for n in range(100))
    decoded = decode_tagged(header(0, 1) + tag(0, "k", b"\x08\x00\x00\x00\x64" + numbers) + SAMPLES)
    assert isinstance(decoded, TaggedHeader)
    assert decoded.tags[0].values == tuple(range(MAX_VALUES))


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (b"", Reason.SHORT_HEADER),
        (header(0, 0)[:-1], Reason.SHORT_HEADER),
        (SAMPLES, Reason.MAGIC),
        (b"\xf0\x5f\x02" + bytes(16), Reason.VERSION),
        (header(0, MAX_TAGS + 1) + bytes(1 << 16), Reason.TOO_LARGE),
        (header(0, 2**64 - 1) + SAMPLES, Reason.TOO_LARGE),
        (header(0, 6) + SAMPLES, Reason.TOO_LARGE),
        (header(0, 1) + tag(0, "rx_time", TIME)[:20], Reason.DECODE),
        (header(0, 1) + tag(0, "rx_time", b"\x0e"), Reason.DECODE),
        (header(0, 1) + tag(0, "rx_time", b"\x0c\xff\xff\xff\xff" + bytes(100)), Reason.DECODE),
        (header(0, 1) + tag(0, "rx_time", b"\x0a\x0b\xff\xff\xff\xff\x00" + bytes(100)), Reason.DECODE),
        (header(0, 1) + tag(0, "rx_time", b"\x0a\x0c\x00\x00\x00\x01\x00" + bytes(100)), Reason.DECODE),
        (header(0, 1) + struct.pack("<Q", 0) + b"\x03\x00\x00\x00\x01" + TIME + SOURCE, Reason.DECODE),
        (header(0, 1) + tag(0, "deep", b"\x07" * 300_000) + SAMPLES, Reason.DECODE),
    ],
)
def test_a_malformed_header_is_refused_with_its_reason(message: bytes, reason: Reason) -> None:
    assert decode_tagged(message) is reason


@given(st.binary(max_size=200), st.integers(0, 20))
@example(b"", 1)
def test_garbage_after_the_first_bytes_is_never_an_exception(garbage: bytes, tags: int) -> None:
    message = header(0, tags) + garbage
    decoded = decode_tagged(message)
    assert isinstance(decoded, Reason) or (
        HEADER_BYTES <= decoded.payload_at <= len(message) and len(decoded.tags) == tags
    )


@given(st.integers(0, 200), st.integers(0, 255))
def test_a_tag_with_a_wrong_byte_or_cut_off_is_never_an_exception(position: int, byte: int) -> None:
    message = bytearray(header(3, 2) + tag(3, "rx_time", TIME) + tag(4, "gain", b"\x04" + bytes(8)))
    message[position % len(message)] = byte
    for data in (bytes(message), bytes(message[: position % len(message)])):
        decoded = decode_tagged(data)
        assert isinstance(decoded, Reason) or HEADER_BYTES <= decoded.payload_at <= len(data)
