import struct
from typing import Any

import mavlink_samples as samples
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymavlink.dialects.v20 import common

from edge.mavlink.network.link import Link
from edge.mavlink.outgoing import bearers, lite
from edge.mavlink.wire import codec, dialect, encoding
from edge.mavlink.wire.codec import Flag

TUNNEL_ID, TUNNEL_CRC_EXTRA, TUNNEL_BYTES = 385, 147, 133
LITE = "<IiiHBBBBB"
MESSAGES = {
    0xF5C0: codec.classification_message(
        codec.report_of(samples.answer(), model_id=1, now_ns=905_000_000, max_age_ms=300.0, is_replay=False)
    ),
    0xF5C2: codec.class_info_message(samples.MODEL_ID, 1, samples.LABELS),
    0xF5C3: codec.status_message(
        codec.StatusReport(
            time_us=5, model_id=1, frames_processed=200, frames_dropped=10, results_dropped=3, latency_p50_us=50_000,
            latency_p99_us=None, input_rates_hz=(100.0, 29.97), output_rate_hz=50.0, state=4, present=3,
        )
    ),
}  # fmt: skip
"""By TUNNEL's payload_type."""


def sent(*messages: Any) -> list[bytes]:
    transport = samples.FakeTransport()
    link = Link(transport, 1, 191)
    for message in messages:
        link.send(message)
    return transport.sent


def received(*frames: bytes) -> list[Any]:
    transport = samples.FakeTransport()
    transport.incoming = [("vehicle", frame) for frame in frames]
    return [item.message for item in Link(transport, 255, 190).receive()]


def taken_apart(frame: bytes) -> tuple[int, bytes]:
    """Return payload_type and body of a TUNNEL frame, without pymavlink."""
    payload = samples.decode_frame(frame, TUNNEL_CRC_EXTRA, TUNNEL_BYTES).payload
    kind, target_system, target_component, length = struct.unpack("<HBBB", payload[:5])
    assert (target_system, target_component) == (0, 0)
    return kind, payload[5 : 5 + length]


@pytest.mark.parametrize("kind", MESSAGES)
def test_a_tunnel_carries_the_payload_that_the_message_itself_has(kind: int) -> None:
    message = MESSAGES[kind]
    native, tunnel = sent(message, bearers.tunnelled(message))
    whole = samples.decode_frame(native, message.crc_extra, message.unpacker.size).payload

    assert taken_apart(tunnel) == (kind, whole)
    assert len(tunnel) == len(native) + 5


@pytest.mark.parametrize("kind", MESSAGES)
def test_what_was_put_into_a_tunnel_comes_out_as_from_its_sender(kind: int) -> None:
    frames = sent(MESSAGES[kind], bearers.tunnelled(MESSAGES[kind]))
    native, tunnel = received(*frames)
    (out,) = bearers.opened(tunnel)

    assert out.to_dict() == native.to_dict()
    assert (out.get_srcSystem(), out.get_srcComponent(), out.get_seq()) == (1, 191, 1)


def record(number: int) -> Any:
    return lite.lite_of(result(sequence=number), count=number)


def result(**changes: Any) -> Any:
    values: dict[str, Any] = {name: getattr(MESSAGES[0xF5C0], name) for name in MESSAGES[0xF5C0].fieldnames}
    values["label"] = b"drone"
    return dialect.MAVLink_fusion_classification_message(**(values | changes))


def test_six_short_ones_travel_in_one_tunnel_of_131_bytes() -> None:
    (frame,) = sent(bearers.batched([record(n) for n in range(1, 7)]))
    kind, body = taken_apart(frame)

    assert (kind, len(frame)) == (0xF5C1, 131)
    rows = [struct.unpack(LITE, body[at : at + 19]) for at in range(0, len(body), 19)]
    assert rows == [(900, 2**31 - 1, 2**31 - 1, 1, n, 75, 3, n, int(Flag.TIME_UNSYNCED)) for n in range(1, 7)]
    assert [out.sequence for out in bearers.opened(received(frame)[0])] == [1, 2, 3, 4, 5, 6]


def test_a_batch_is_the_golden_bytes() -> None:
    first = result(time_usec=900_000, lat=-337_977_400, class_id=[2, 0, 0, 0], flags=40, sequence=255)
    second = result(time_usec=910_000, lat=-337_977_400, class_id=[0, 2, 0, 0], flags=8, sequence=256)
    (frame,) = sent(bearers.batched([lite.lite_of(first, 6), lite.lite_of(second)]))

    assert frame[:-2].hex() == (
        "fd2b00000001bf810100"  # head: 43 bytes of payload, from 1/191
        "c1f5000026"  # type, target, length 38
        "84030000c8dfdaebffffff7f0200ff4b030628"
        "8e030000c8dfdaebffffff7f0000004b030108"
    )


LIE = st.tuples(st.integers(0, 2**16 - 1) | st.sampled_from(sorted(MESSAGES)) | st.just(0xF5C1), st.integers(0, 255))


@given(LIE, st.binary(max_size=128))
def test_no_tunnel_raises_and_none_is_longer_than_it_can_be(lie: tuple[int, int], body: bytes) -> None:
    kind, length = lie
    message = common.MAVLink_tunnel_message(0, 0, kind, length, list(body.ljust(128, b"\0")))
    (tunnel,) = received(*sent(message))

    assert len(bearers.opened(tunnel)) <= bearers.BATCH
    assert length <= 128 or bearers.opened(tunnel) == []


@pytest.mark.parametrize(
    ("kind", "length"),
    [(0xF5C0, 96), (0xF5C0, 129), (0xF5C0, 255), (0xF5C1, 0), (0xF5C1, 20), (0xF5C4, 97), (0x8000, 97), (0, 19)],
)
def test_a_tunnel_that_lies_or_is_not_ours_holds_nothing(kind: int, length: int) -> None:
    (tunnel,) = received(*sent(common.MAVLink_tunnel_message(0, 0, kind, length, [1] * 128)))

    assert bearers.opened(tunnel) == []


def test_what_a_newer_sender_adds_is_left_alone() -> None:
    body = encoding.payload_of(MESSAGES[0xF5C0]) + b"newer"
    message = common.MAVLink_tunnel_message(0, 0, 0xF5C0, len(body), list(body.ljust(128, b"\0")))
    (out,) = bearers.opened(received(*sent(message))[0])

    assert out.label == "drone"


def test_a_short_record_says_what_fits_and_marks_what_is_unknown() -> None:
    unknown = result(class_id=[65_535] * 4, confidence=[65_535] * 4, time_usec=2**63, sequence=2**32 - 1)
    report = lite.lite_report(lite.lite_of(unknown, 1000))

    assert (report.class_id, report.confidence, report.position) == (-1, None, None)
    assert (report.sequence, report.count) == (255, 255)


def test_a_short_record_keeps_place_and_flags() -> None:
    flags = Flag.GEO_VALID | Flag.REPLAY
    report = lite.lite_report(lite.marked(lite.lite_of(result(lat=1, lon=-2, flags=int(flags))), Flag.BACKFILL))

    assert report.flags == flags | Flag.BACKFILL
    assert report.position == codec.Position(1e-7, -2e-7, None)
    assert report.confidence == 0.75


def test_a_warning_without_room_in_a_short_record_makes_it_none_of_a_real_flight() -> None:
    assert Flag.REPLAY in lite.lite_report(lite.lite_of(result(flags=256))).flags
    assert Flag.REPLAY not in lite.lite_report(lite.lite_of(result(flags=255 - 64))).flags


@given(st.integers(0, 2**44), st.integers(0, 2**32 - 1))
def test_the_whole_time_of_a_short_record_follows_from_a_later_one(time_ms: int, age_ms: int) -> None:
    short = lite.lite_of(result(time_usec=time_ms * 1000))

    assert lite.whole_time_us(short.time_boot_ms, (time_ms + age_ms) * 1000) == time_ms * 1000
