import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edge.transport.messages import Kind
from edge.transport.wire import (
    FLAG_CRC,
    FLAG_HOST_TIME,
    FLAG_REPLAY,
    HEADER_BYTES,
    Header,
    Reason,
    Stamp,
    as_array,
    check_payload,
    decode_header,
    decode_message,
    encode_array,
    encode_bytes,
    encode_header,
)

STAMP = Stamp(
    stream_id=65_535,
    epoch=4_000_000_000,
    sequence=4_294_967_295,
    capture_ns=9_000_000_000_000_000_000,
    send_ns=-1,
    flags=FLAG_HOST_TIME | FLAG_REPLAY,
    sample_rate_hz=61_440_000.0,
    centre_hz=2_457_500_000.25,
)
WINDOW = np.arange(-50, 50, dtype=np.int16).reshape(-1, 2)
FRAME = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
MESSAGE = encode_array(Kind.IQ, STAMP, WINDOW, with_crc=True)


def changed(**fields: Any) -> tuple[bytes, memoryview]:
    """Return a good I/Q message whose header says something else."""
    header = decode_header(MESSAGE[0])
    assert isinstance(header, Header)
    return encode_header(header._replace(**fields)), MESSAGE[1]


def decoded(parts: tuple[bytes, bytes | memoryview]) -> tuple[Header, bytes | memoryview]:
    message = decode_message(parts)
    assert not isinstance(message, Reason), message
    return message


def test_the_header_has_64_bytes() -> None:
    assert len(MESSAGE[0]) == HEADER_BYTES == 64


def test_a_header_with_another_capture_time_is_the_same_otherwise() -> None:
    header = decoded(MESSAGE)[0]
    assert header.captured(7) == header._replace(capture_ns=7)
    assert isinstance(header.captured(7), Header)


def test_every_field_of_a_stamp_comes_back() -> None:
    header, _ = decoded(MESSAGE)
    assert Stamp(*(getattr(header, name) for name in Stamp._fields)) == STAMP._replace(flags=STAMP.flags | FLAG_CRC)


@given(
    hnp.arrays(st.sampled_from([np.uint8, np.int8, np.int16]), st.tuples(st.integers(0, 60), st.just(2))),
    st.booleans(),
)
def test_windows_of_any_type_round_trip(window: np.ndarray[Any, Any], with_crc: bool) -> None:
    message = decoded(encode_array(Kind.IQ, STAMP, window, with_crc=with_crc))
    np.testing.assert_array_equal(as_array(*message), window)
    assert as_array(*message).dtype == window.dtype


def test_float_windows_round_trip_bit_by_bit() -> None:
    window = np.array([[np.nan, -0.0], [np.inf, 1e-42]], dtype=np.float32)
    assert as_array(*decoded(encode_array(Kind.IQ, STAMP, window))).tobytes() == window.tobytes()


def test_frames_round_trip_without_a_copy() -> None:
    header, payload = decoded(encode_array(Kind.FRAME, STAMP, FRAME))
    np.testing.assert_array_equal(as_array(header, payload), FRAME)
    assert np.shares_memory(as_array(header, payload), FRAME)


@given(st.binary(max_size=300), st.sampled_from([Kind.ENCODED_FRAME, Kind.CLASSIFICATION, Kind.MAVLINK]), st.booleans())
def test_bytes_round_trip(data: bytes, kind: Kind, with_crc: bool) -> None:
    header, payload = decoded(encode_bytes(kind, STAMP, data, with_crc=with_crc))
    assert (bytes(payload), header.kind, header.dims) == (data, kind, ())


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 2), dtype=np.float64),
        np.zeros((4, 2), dtype=np.complex64),
        np.zeros((8, 4), dtype=np.int16)[:, ::2],
        np.zeros((1, 2, 3, 4), dtype=np.uint8),
        np.int16(3),
    ],
)
def test_an_array_that_the_wire_does_not_know_is_refused(array: Any) -> None:
    with pytest.raises(ValueError, match="wants contiguous"):
        encode_array(Kind.IQ, STAMP, np.asarray(array) if np.isscalar(array) else array)


@pytest.mark.parametrize("parts", [(), (b"",), (*MESSAGE, b"")])
def test_another_number_of_parts_is_refused(parts: tuple[bytes, ...]) -> None:
    assert decode_message(parts) is Reason.PARTS


@pytest.mark.parametrize("size", [0, 1, 63, 65, 1000])
def test_a_header_of_another_size_is_refused(size: int) -> None:
    assert decode_message(((MESSAGE[0] * 20)[:size], MESSAGE[1])) is Reason.SHORT_HEADER


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"magic": b"FAVU"}, Reason.MAGIC),
        ({"version": 0}, Reason.VERSION),
        ({"version": 2}, Reason.VERSION),
        ({"kind": 0}, Reason.KIND),
        ({"kind": 200}, Reason.KIND),
        ({"ndim": 4}, Reason.DIMS),
        ({"dtype": 5}, Reason.DIMS),
        ({"ndim": 3, "dim2": 1}, Reason.DIMS),
        ({"ndim": 0}, Reason.DIMS),
        ({"dtype": 0}, Reason.DIMS),
        ({"kind": int(Kind.FRAME)}, Reason.DIMS),
        ({"kind": int(Kind.ENCODED_FRAME)}, Reason.DIMS),
        ({"dim0": 49}, Reason.SIZE),
        ({"dim1": 0}, Reason.SIZE),
        ({"dim0": 2**32 - 1, "dim1": 65_535}, Reason.SIZE),
        ({"dtype": 4}, Reason.SIZE),
        ({"payload_bytes": 199}, Reason.SIZE),
        ({"payload_bytes": 2**32 - 1}, Reason.SIZE),
        ({"crc32": 0}, Reason.CRC),
    ],
)
def test_a_header_that_lies_is_refused_with_the_reason(fields: dict[str, Any], reason: Reason) -> None:
    assert decode_message(changed(**fields)) is reason


def test_a_big_endian_header_is_refused() -> None:
    swapped = MESSAGE[0][:8] + bytes(reversed(MESSAGE[0][8:]))
    assert decode_message((swapped, MESSAGE[1])) in (Reason.SIZE, Reason.DIMS)


def test_any_flipped_bit_of_a_payload_is_found_by_the_checksum() -> None:
    payload = bytes(MESSAGE[1])
    for bit in range(8 * len(payload)):
        broken = bytearray(payload)
        broken[bit // 8] ^= 1 << bit % 8
        assert decode_message((MESSAGE[0], bytes(broken))) is Reason.CRC


def test_without_the_flag_no_checksum_is_looked_at() -> None:
    header = encode_array(Kind.IQ, STAMP, WINDOW)[0]
    assert decode_message((header, bytes(len(MESSAGE[1])))) not in set(Reason)


def test_the_checksum_is_crc32_of_the_payload() -> None:
    assert decoded(MESSAGE)[0].crc32 == zlib.crc32(MESSAGE[1])


@given(st.lists(st.binary(max_size=200), max_size=4))
def test_garbage_is_refused_with_a_reason_and_never_raises(parts: list[bytes]) -> None:
    assert isinstance(decode_message(parts), Reason)


@given(
    st.binary(min_size=HEADER_BYTES - 6, max_size=HEADER_BYTES - 6),
    st.binary(max_size=100),
    st.sampled_from(list(Kind)),
)
def test_random_headers_behind_a_right_beginning_never_raise(rest: bytes, payload: bytes, kind: Kind) -> None:
    message = decode_message((MESSAGE[0][:5] + bytes([kind]) + rest, payload))
    if not isinstance(message, Reason):
        assert message[0].payload_bytes == len(payload)


@given(st.integers(0, HEADER_BYTES * 8 - 1))
def test_a_message_with_any_one_header_bit_flipped_is_refused_or_can_still_be_read(bit: int) -> None:
    header = bytearray(MESSAGE[0])
    header[bit // 8] ^= 1 << bit % 8
    message = decode_message((bytes(header), MESSAGE[1]))
    if not isinstance(message, Reason):
        assert as_array(*message).nbytes == len(MESSAGE[1])


def test_a_checked_payload_agrees_with_its_header() -> None:
    header, payload = decoded(MESSAGE)
    assert check_payload(header, payload) is None
    assert check_payload(header, bytes(payload) + b"\0") is Reason.SIZE


def test_a_reason_prints_as_its_name_in_the_counters() -> None:
    assert f"{Reason.CRC}" == "bad_crc"
    assert len({reason.value for reason in Reason}) == len(Reason)
