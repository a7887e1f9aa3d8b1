import random

import mavlink_samples as samples
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymavlink.dialects.v20 import common

from edge.clock import VirtualClock
from edge.mavlink.network.link import MAX_PARSERS, Link
from edge.mavlink.wire import codec, standard
from edge.mavlink.wire.frames import LONGEST_NS, MAX_FRAME_BYTES, MESSAGES, SILENT_NS, FrameCounts, FrameParser

HEADER_OF_255_BYTES = bytes([0xFD, 255, 0, 0, 0, 1, 1, 0, 0, 0])


def unknown_header(swallowed: int) -> bytes:
    """Return the forged beginning of a frame with an unknown id that ends so many bytes behind the header."""
    return bytes([0xFD, swallowed - 2, 0, 0, 0, 1, 1]) + (61_999).to_bytes(3, "little")


def frames(count: int, *, system_id: int = 1) -> list[bytes]:
    """Return frames of heartbeats and classifications by turns."""
    transport = samples.FakeTransport()
    link = Link(transport, system_id, 191)
    for number in range(count):
        report = codec.report_of(
            samples.answer(sequence=number), model_id=1, now_ns=0, max_age_ms=300.0, is_replay=False
        )
        link.send(codec.classification_message(report) if number % 2 else standard.heartbeat(4))
    return transport.sent


def parse(*pieces: bytes) -> tuple[list[str], FrameCounts]:
    counts = FrameCounts()
    parser = FrameParser(counts)
    return [message.get_type() for piece in pieces for message in parser.feed(piece)], counts


def test_frames_are_found_however_the_bytes_are_cut() -> None:
    stream = b"".join(frames(6))

    for size in (1, 2, 7, 100, len(stream)):
        pieces = [stream[at : at + size] for at in range(0, len(stream), size)]
        assert parse(*pieces)[0] == ["HEARTBEAT", "FUSION_CLASSIFICATION"] * 3


def test_noise_around_frames_is_skipped_and_counted() -> None:
    first, second = frames(2)

    found, counts = parse(b"noise" + first + b"more" + second)

    assert found == ["HEARTBEAT", "FUSION_CLASSIFICATION"]
    assert counts.skipped_bytes == 9
    assert counts.bad == 0


def test_a_false_length_costs_no_frame_behind_it() -> None:
    stream = HEADER_OF_255_BYTES + b"".join(frames(30))

    found, counts = parse(stream)

    assert len(found) == 30
    assert counts.bad == 1


def test_a_damaged_frame_is_counted_and_the_next_one_is_whole() -> None:
    first, second = frames(2)
    damaged = bytearray(first)
    damaged[12] ^= 1

    found, counts = parse(bytes(damaged) + second)

    assert found == ["FUSION_CLASSIFICATION"]
    assert counts.bad == 1


def test_an_environment_variable_cannot_switch_the_crc_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(common, "MAVLINK_IGNORE_CRC", "1")
    damaged = bytearray(frames(1)[0])
    damaged[12] ^= 1

    assert parse(bytes(damaged))[0] == []


def test_an_unknown_id_is_counted_and_passed_over() -> None:
    unknown = samples.encode_frame(samples.Frame(0, 1, 1, 61_999, b"whatever"), 0)
    heartbeat = frames(1)[0]

    found, counts = parse(unknown + heartbeat + unknown)

    assert found == ["HEARTBEAT"]
    assert counts.unknown == 2
    assert counts.bad == 0


def test_an_unknown_id_with_a_false_length_costs_no_frame_behind_it() -> None:
    false_start = bytes([0xFD, 60, 0, 0, 0, 1, 1]) + (61_999).to_bytes(3, "little")

    found, counts = parse(false_start + b"".join(frames(10)))

    assert len(found) == 10
    assert counts.bad == 1


@pytest.mark.parametrize("count", [1, 2, 11, 12])
def test_an_unknown_id_that_ends_where_a_frame_does_costs_no_frame_either(count: int) -> None:
    heartbeats = [frames(1)[0]] * 12
    forged = unknown_header(sum(map(len, heartbeats[:count])))

    found, counts = parse(forged + b"".join(heartbeats))

    assert len(found) == 12
    assert (counts.bad, counts.unknown, counts.skipped_bytes) == (1, 0, len(forged))


def test_many_forged_beginnings_in_a_row_are_one_step_each() -> None:
    forged = unknown_header(200) * 20
    heartbeats = b"".join([frames(1)[0]] * 12)

    assert len(parse((forged + heartbeats) * 2)[0]) == 24


def test_frames_behind_a_false_beginning_come_out_when_its_rest_does_not() -> None:
    counts = FrameCounts()
    parser = FrameParser(counts)

    assert parser.feed(HEADER_OF_255_BYTES * 3 + frames(1)[0], 0) == []
    assert parser.give_up(SILENT_NS - 1) == []
    assert [message.get_type() for message in parser.give_up(SILENT_NS)] == ["HEARTBEAT"]
    assert not parser.is_holding
    assert counts.bad == 3


def test_a_false_beginning_in_a_slow_stream_is_given_up_too() -> None:
    parser = FrameParser(FrameCounts())
    found = parser.feed(HEADER_OF_255_BYTES, 0)
    for n in range(1, 8):
        found += parser.feed(frames(1)[0], n * 400_000_000)
        found += parser.give_up(n * 400_000_000)

    assert len(found) == 7
    assert not parser.is_holding


def test_a_frame_that_comes_in_pieces_is_not_given_up() -> None:
    frame = frames(2)[1]
    parser = FrameParser(FrameCounts())
    found = []
    for n, byte in enumerate(frame):
        now_ns = n * LONGEST_NS // (len(frame) + 1)
        found += parser.feed(bytes([byte]), now_ns) + parser.give_up(now_ns)

    assert [message.get_type() for message in found] == ["FUSION_CLASSIFICATION"]


def test_a_link_that_hears_nothing_more_gives_a_false_beginning_up() -> None:
    transport, clock = samples.FakeTransport(), VirtualClock(1)
    link = Link(transport, 1, 191, clock)
    transport.incoming = [("peer", HEADER_OF_255_BYTES + frames(1, system_id=7)[0])]

    assert link.receive() == []
    transport.incoming = []
    clock.advance_to(1 + SILENT_NS)

    assert [(item.name, item.system_id) for item in link.receive()] == [("HEARTBEAT", 7)]
    assert link.receive() == []


def test_whole_frames_of_many_peers_cost_nobody_an_unfinished_one() -> None:
    transport = samples.FakeTransport()
    link = Link(transport, 1, 191, VirtualClock(1))
    frame = frames(1, system_id=7)[0]
    transport.incoming = [("split", frame[:9]), *((f"peer {n}", frame) for n in range(3 * MAX_PARSERS))]
    link.receive()
    transport.incoming = [(f"noise {n}", HEADER_OF_255_BYTES) for n in range(MAX_PARSERS - 1)]
    link.receive()
    transport.incoming = [("split", frame[9:])]

    assert len(link.receive()) == 1


@pytest.mark.parametrize(("payload_bytes", "found"), [(9, ["HEARTBEAT"]), (10, [])])
def test_a_version_1_frame_longer_than_its_message_is_none(payload_bytes: int, found: list[str]) -> None:
    body = bytes([payload_bytes, 0, 1, 1, 0]) + bytes(payload_bytes)
    crc = common.x25crc(body + bytes([MESSAGES[0].crc_extra])).crc

    assert parse(b"\xfe" + body + crc.to_bytes(2, "little"))[0] == found


def test_flags_that_change_the_format_are_refused() -> None:
    frame = bytearray(frames(1)[0])
    frame[2] = 0x02

    found, counts = parse(bytes(frame))

    assert found == []
    assert counts.bad == 1


def test_a_version_1_heartbeat_is_understood() -> None:
    packed = standard.heartbeat(4).pack(common.MAVLink(None, srcSystem=1, srcComponent=1), force_mavlink1=True)

    assert packed[0] == 0xFE
    assert parse(packed)[0] == ["HEARTBEAT"]


def test_a_megabyte_of_noise_is_survived_and_little_of_it_kept() -> None:
    noise = random.Random(1).randbytes(1 << 20)
    counts = FrameCounts()
    parser = FrameParser(counts)

    for at in range(0, len(noise), 65_536):
        parser.feed(noise[at : at + 65_536])

    assert len(parser._buffer) < MAX_FRAME_BYTES
    assert counts.skipped_bytes > 0.9 * len(noise)
    assert [message.get_type() for message in parser.feed(b"\0" * MAX_FRAME_BYTES + frames(1)[0])] == ["HEARTBEAT"]


@given(st.lists(st.binary(max_size=60) | st.sampled_from(frames(8)), max_size=30))
def test_no_bytes_however_strange_raise(pieces: list[bytes]) -> None:
    counts = FrameCounts()
    parser = FrameParser(counts)

    for piece in pieces:
        parser.feed(piece)

    assert len(parser._buffer) < MAX_FRAME_BYTES


@given(st.sampled_from(sorted(MESSAGES)), st.binary(max_size=255), st.binary(min_size=3, max_size=3))
def test_no_payload_with_a_right_crc_raises(number: int, payload: bytes, sender: bytes) -> None:
    frame = samples.encode_frame(samples.Frame(*sender, number, payload), MESSAGES[number].crc_extra)

    found, counts = parse(frame)

    assert len(found) + counts.bad == 1
