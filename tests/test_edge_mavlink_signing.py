import dataclasses
from typing import Any

import pytest
import signatures
from hypothesis import given
from hypothesis import strategies as st
from mavlink_samples import FakeTransport
from pymavlink.dialects.v20 import common
from signatures import KEY, NOW, OTHER_KEY, SECOND, UTC_NS, Calendar, by, command, heartbeat, plain, signed, signing

from edge.mavlink.network.link import Link
from edge.mavlink.trust.security import Security
from edge.mavlink.trust.signing import LATEST, MARGIN, MAX_STREAMS, WINDOW, Refusal, Signing
from edge.mavlink.wire.frames import FrameCounts, FrameParser


def test_a_genuine_frame_counts_once() -> None:
    ours, frame = signing(), signed(heartbeat(), NOW)

    assert ours.check(frame) is None
    assert ours.check(frame) == Refusal.REPLAYED


def test_frames_count_in_the_order_of_their_times_for_each_sender_and_link() -> None:
    ours = signing()

    assert ours.check(signed(heartbeat(), NOW + 2)) is None
    assert ours.check(signed(heartbeat(), NOW + 1)) == Refusal.REPLAYED
    assert ours.check(signed(heartbeat(), NOW + 1, link_id=1)) is None
    assert ours.check(signed(heartbeat(), NOW + 1, sender=(255, 191))) is None
    assert ours.check(signed(heartbeat(), NOW + 3)) is None


@pytest.mark.parametrize(
    ("frame", "refusal"),
    [
        (plain(heartbeat()), Refusal.UNSIGNED),
        (signed(heartbeat(), NOW, secret=OTHER_KEY), Refusal.WRONG_SIGNATURE),
        (signed(heartbeat(), NOW - WINDOW - 1), Refusal.TOO_OLD),
        (signed(heartbeat(), LATEST + 1), Refusal.TOO_LATE),
        (signed(heartbeat(), NOW + MARGIN + 1), Refusal.NOT_SAVED),
    ],
)
def test_what_is_not_proven_does_not_count(frame: bytes, refusal: Refusal) -> None:
    assert signing().check(frame) == refusal


def test_a_forged_time_costs_its_owner_nothing() -> None:
    ours = signing()
    forged = signed(heartbeat(), 2**48 - 1, secret=OTHER_KEY)

    refused = [ours.check(forged) for _ in range(100)]
    genuine = [ours.check(signed(heartbeat(), NOW + n)) for n in range(100)]

    assert set(refused) == {Refusal.WRONG_SIGNATURE}
    assert genuine == [None] * 100
    assert ours.newest == NOW + 99


def test_a_time_at_the_end_of_all_times_is_not_followed_even_with_the_key() -> None:
    ours = signing()

    assert ours.check(signed(heartbeat(), 2**48 - 1)) == Refusal.TOO_LATE
    assert ours.newest == NOW
    assert ours.check(signed(heartbeat(), NOW)) is None


@pytest.mark.parametrize("is_clean", [True, False])
def test_whatever_counted_before_a_restart_does_not_count_after_it(is_clean: bool) -> None:
    before, calendar = signing(), Calendar()
    times = [NOW + MARGIN, NOW - 3 * SECOND, NOW]
    frames = [signed(command(), time, sender=(255, n)) for n, time in enumerate(times, start=1)]
    assert [before.check(frame) for frame in frames] == [None] * 3
    saved = before.newest if is_clean else NOW  # a crash leaves what was saved last

    after = Signing(KEY, calendar, saved, is_clean=is_clean)

    assert [after.check(frame) for frame in frames] == [Refusal.TOO_OLD] * 3
    assert after.check(signed(command(), after.newest + 1)) is None


def test_after_a_restart_a_peer_counts_again_as_soon_as_it_has_heard_us() -> None:
    peer = signing(now_ns=UTC_NS - 30 * 10**9)
    after = signing(saved=NOW + 7 * SECOND, is_clean=False)
    unheard = by(peer, heartbeat())

    assert after.check(unheard) == Refusal.TOO_OLD
    assert peer.check(by(after, heartbeat(), (1, 191))) == Refusal.NOT_SAVED
    assert after.check(by(peer, heartbeat())) is None


def test_a_peer_whose_clock_is_ahead_counts_once_that_is_on_disk() -> None:
    ours = signing()
    frame = signed(command(), NOW + 3600 * SECOND)

    assert ours.check(frame) == Refusal.NOT_SAVED
    assert ours.needs_saving
    ours.note_saved(ours.newest)

    assert not ours.needs_saving
    assert ours.check(frame) is None


def test_times_of_ours_go_on_when_the_clock_goes_back() -> None:
    calendar = Calendar()
    ours = Signing(KEY, calendar, is_clean=True)
    first = by(ours, heartbeat())
    calendar.now_ns -= 3600 * 10**9
    second = by(ours, heartbeat())

    assert [int.from_bytes(frame[-12:-6], "little") for frame in (first, second)] == [NOW + 1, NOW + 2]


def test_a_clock_that_was_never_set_goes_on_from_what_was_saved() -> None:
    ours = signing(saved=NOW, is_clean=False, now_ns=0)

    assert ours.newest == NOW + MARGIN


def test_more_senders_than_any_network_has_are_refused() -> None:
    ours = signing()

    for n in range(MAX_STREAMS):
        assert ours.check(signed(heartbeat(), NOW, sender=(n + 1, 1))) is None

    assert ours.check(signed(heartbeat(), NOW, sender=(MAX_STREAMS + 1, 1))) == Refusal.CROWDED
    assert ours.check(signed(heartbeat(), NOW + 1, sender=(1, 1))) is None


def test_a_sender_that_was_silent_for_long_makes_room_and_its_old_frames_still_do_not_count() -> None:
    ours = signing()
    old = [signed(heartbeat(), NOW - n, sender=(n + 1, 1)) for n in range(MAX_STREAMS)]
    assert [ours.check(frame) for frame in old] == [None] * MAX_STREAMS
    later = NOW + WINDOW
    ours.note_saved(later)

    assert ours.check(signed(heartbeat(), later, sender=(1, 1))) is None
    assert ours.check(signed(heartbeat(), later, sender=(201, 1))) is None
    assert len(ours._streams) == MAX_STREAMS
    assert set(map(ours.check, old)) == {Refusal.REPLAYED, Refusal.TOO_OLD}


def test_our_signature_is_the_one_that_the_standard_asks_for() -> None:
    frame = by(signing(), heartbeat(), link_id=7)

    assert frame[2] == 1
    assert frame[-13] == 7
    assert frame[-6:] == signatures.tag(KEY, frame[:-6])


def test_pymavlink_accepts_what_we_sign() -> None:
    receiver = common.MAVLink(None)
    receiver.signing.secret_key = KEY
    receiver.signing.timestamp = NOW
    transport = FakeTransport()
    link = Link(transport, 1, 191, security=Security(signing=signing(), link_id=3))

    link.send(heartbeat())
    link.send(command())

    messages = [receiver.decode(bytearray(frame)) for frame in transport.sent]
    assert [(message.get_type(), message.get_signed(), message.get_link_id()) for message in messages] == [
        ("HEARTBEAT", True, 3), ("COMMAND_LONG", True, 3),
    ]  # fmt: skip


def test_pymavlink_refuses_what_we_sign_with_another_key() -> None:
    receiver = common.MAVLink(None)
    receiver.signing.secret_key = OTHER_KEY

    with pytest.raises(common.MAVError, match="Invalid signature"):
        receiver.decode(bytearray(by(signing(), heartbeat())))


def accepted(data: bytes) -> list[Any]:
    """Return what counts of some bytes on a link where everything must be signed."""
    transport = FakeTransport()
    link = Link(transport, 1, 191, security=Security(require_signed="all", signing=signing()))
    transport.incoming = [("peer", data)]
    return link.receive()


def with_right_crc(frame: bytearray) -> bytes:
    """Return the frame with the CRC that everybody can compute, where it is long enough to have one."""
    end = 10 + frame[1]
    if frame[0] == 0xFD and len(frame) >= end + 2:
        crc = common.x25crc(bytes(frame[1:end]) + bytes([command().crc_extra])).crc
        frame[end : end + 2] = crc.to_bytes(2, "little")
    return bytes(frame)


FRAME = signed(command(), NOW)


@given(st.dictionaries(st.integers(0, len(FRAME) - 1), st.integers(1, 255), min_size=1, max_size=6), st.booleans())
def test_no_mutation_of_a_signed_frame_counts(changes: dict[int, int], is_crc_mended: bool) -> None:
    frame = bytearray(FRAME)
    for at, change in changes.items():
        frame[at] ^= change
    mutated = with_right_crc(frame) if is_crc_mended else bytes(frame)

    assert accepted(FRAME)
    assert mutated == FRAME or accepted(mutated) == []


@given(st.integers(0, 2**48 - 1), st.binary(min_size=6, max_size=6))
def test_no_guessed_signature_counts(time: int, guess: bytes) -> None:
    frame = FRAME[:-12] + time.to_bytes(6, "little") + guess

    assert frame == FRAME or accepted(frame) == []


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(-2 * WINDOW, 2 * MARGIN)), max_size=30), st.booleans())
def test_no_frame_ever_counts_twice_whatever_the_order_and_the_restarts(
    sent: list[tuple[int, int]], is_clean: bool
) -> None:
    frames = [signed(command(), NOW + offset, sender=(255, 1 + number)) for number, offset in sent]
    before = signing()
    counted = [frame for frame in frames if before.check(frame) is None]
    saved = before.newest if is_clean else NOW

    after = signing(saved=saved, is_clean=is_clean)

    assert len(set(counted)) == len(counted)
    assert not [frame for frame in counted if after.check(frame) is None]


def test_the_parser_hands_frames_over_as_they_came() -> None:
    counts = FrameCounts()
    (message,) = FrameParser(counts).feed(FRAME)

    assert bytes(message.get_msgbuf()) == FRAME
    assert dataclasses.asdict(counts)["bad"] == 0
