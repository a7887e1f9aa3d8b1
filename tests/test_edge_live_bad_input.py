"""Streams that change, jump, lie and restart in flight: counted, recovered from, and never a stale answer.

One live pipeline on real sockets goes through it all. `LiveRig` holds every answer to what all are held to (not stale,
finite, sums to 1), and its end the accounting of every message and the files that are open.
"""

from collections import Counter
from collections.abc import Iterator

import cv2
import numpy as np
import pytest
from live_rig import SAMPLE_RATE_HZ, WINDOW_SAMPLES, LiveRig, Make, Parts, Source

from edge.transport.messages import Kind
from edge.transport.wire import encode_array, encode_bytes

HOUR_NS = 3600 * 10**9
WINDOW_NS = round(WINDOW_SAMPLES / SAMPLE_RATE_HZ * 1e9)
FEW = 5
"""Messages of a kind that are enough to see what becomes of them."""


@pytest.fixture(scope="module")
def flight(tmp_path_factory) -> Iterator[LiveRig]:
    """One flight through all faults, one after the other."""
    rig = LiveRig(tmp_path_factory.mktemp("flight"), {"radio": "iq", "camera": "image"})
    yield rig
    rig.end()
    rig.close()


@pytest.fixture
def rig(flight: LiveRig) -> LiveRig:
    flight.feed(LiveRig.is_fused)
    return flight


def counts(rig: LiveRig, name: str) -> Counter[str]:
    """Return what was refused of a stream so far, and what else became of its messages."""
    stream = rig.stream(name)
    return Counter(stream.rejected) + Counter(late=stream.dropped_late, lost=stream.lost_transport)


def lying_size(source: Source) -> Parts:
    header, payload = source.message()
    return header, bytes(payload)[:-7]


def lying_dims(source: Source) -> Parts:
    """Claim another shape, with a payload as long as the header says."""
    header, payload = source.message()
    return bytes(header[:40]) + (1 << 30).to_bytes(4, "little") + bytes(header[44:]), payload


def no_dims(source: Source) -> Parts:
    header, payload = source.message()
    return bytes(header[:40]) + bytes(8) + bytes(header[48:]), payload


def jpeg(source: Source, quality: int = 90) -> bytes:
    return cv2.imencode(".jpg", source.content(), [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def huge_jpeg(source: Source) -> Parts:
    data = bytearray(jpeg(source))
    start = data.index(b"\xff\xc0")
    data[start + 5 : start + 9] = (30_000).to_bytes(2, "big") * 2
    return encode_bytes(Kind.ENCODED_FRAME, source.stamp(), bytes(data))


def resized(width: int, height: int) -> Make:
    return lambda source: source.message(cv2.resize(source.content(), (width, height)))


FAULTS: dict[str, tuple[str, Make, str]] = {
    "the radio changes its sample rate": (
        "radio",
        lambda s: s.message(rate_hz=2 * SAMPLE_RATE_HZ),
        "wrong_sample_rate",
    ),
    "the radio says no sample rate": ("radio", lambda s: s.message(rate_hz=float("nan")), "wrong_sample_rate"),
    "the radio sends frames": ("radio", lambda s: encode_bytes(Kind.ENCODED_FRAME, s.stamp(), b"x"), "wrong_kind"),
    "the radio sends three columns": (
        "radio",
        lambda s: encode_array(Kind.IQ, s.stamp(0, SAMPLE_RATE_HZ), np.ones((4096, 3), np.int16)),
        "wrong_kind",
    ),
    "the camera sends samples": (
        "camera",
        lambda s: encode_array(Kind.IQ, s.stamp(0, SAMPLE_RATE_HZ), np.ones((4096, 2), np.int16)),
        "wrong_kind",
    ),
    "the camera sends floats": ("camera", lambda s: s.message(np.ones((8, 8, 3), np.float32)), "wrong_dims"),
    "the camera sends four channels": (
        "camera",
        lambda s: s.message(np.ones((8, 8, 4), np.uint8)),
        "wrong_dims",
    ),
    "the radio's clock is an hour ahead": ("radio", lambda s: s.message(later_ns=HOUR_NS), "bad_time"),
    "the radio's clock is an hour behind": ("radio", lambda s: s.message(later_ns=-HOUR_NS), "bad_time"),
    "the camera's clock is a day ahead": ("camera", lambda s: s.message(later_ns=24 * HOUR_NS), "bad_time"),
    "the camera's clock is a day behind": ("camera", lambda s: s.message(later_ns=-24 * HOUR_NS), "bad_time"),
    "the camera's clock is a second ahead": ("camera", lambda s: s.message(later_ns=10**9), "bad_time"),
    "the radio sends less than it says": ("radio", lying_size, "wrong_size"),
    "the camera sends less than it says": ("camera", lying_size, "wrong_size"),
    "the radio lies about its samples": ("radio", lying_dims, "wrong_size"),
    "the camera lies about its pixels": ("camera", no_dims, "wrong_size"),
    "a JPEG lies about its pixels": ("camera", huge_jpeg, "too_large"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_does_not_fit_is_counted_told_and_over_with_the_first_that_does(rig: LiveRig, fault: str) -> None:
    """The other sensor answers alone meanwhile, and the answers and the stream's state say why."""
    name, make, reason = FAULTS[fault]
    n = [*rig.sources].index(name)
    before = {stream: counts(rig, stream) for stream in rig.sources}
    sent = rig.sources[name].sent
    rig.feed(lambda rig: rig.answers[-1].modalities[n].reason == reason, {name: make})
    assert rig.answers[-1].modalities[1 - n].mask == 1.0
    rig.feed(lambda rig: rig.stream(name).state == reason, {name: make})
    bad = rig.sources[name].sent - sent
    rig.feed(LiveRig.is_fused)
    assert counts(rig, name) - before[name] == {reason: bad}
    assert counts(rig, "camera" if name == "radio" else "radio") == before["camera" if name == "radio" else "radio"]


def test_a_masked_sensor_is_told_with_the_next_status(rig: LiveRig) -> None:
    told = len(rig.statuses)
    rig.feed(lambda rig: len(rig.statuses) > told + 1, {"camera": no_dims})
    assert rig.statuses[-1].streams["camera"].state == "wrong_size"


CHANGES: dict[str, tuple[str, Make]] = {
    "float samples": ("radio", lambda s: s.message(s.content().astype(np.float32) / 3e4)),
    "longer windows": ("radio", lambda s: s.message(np.concatenate([s.content(), s.content()]), later_ns=-WINDOW_NS)),
    "larger frames": ("camera", resized(1280, 720)),
    "smaller frames": ("camera", resized(48, 40)),
    "upright frames": ("camera", resized(120, 400)),
    "JPEG frames": ("camera", lambda s: encode_bytes(Kind.ENCODED_FRAME, s.stamp(), jpeg(s))),
    "many more frames": ("camera", lambda s: burst(s)),
    "many more windows": ("radio", lambda s: burst(s)),
    "fewer messages": ("camera", lambda s: s.message() if s.sent % 2 else idle(s)),
}


def burst(source: Source) -> Parts:
    for _ in range(4):
        source.publisher.send(source.message())
    return source.message()


def idle(source: Source) -> None:
    source.sent += 1


@pytest.mark.parametrize("change", CHANGES)
def test_what_may_change_in_flight_interrupts_nothing(rig: LiveRig, change: str) -> None:
    """Size, format and rate of messages are each message's own business; so it is, too, when they change back."""
    name, make = CHANGES[change]
    before = counts(rig, name)
    for faults in ({name: make}, {}):
        processed = rig.stream(name).processed
        rig.feed(lambda rig, before=processed: rig.stream(name).processed >= before + FEW, faults)
        rig.feed(LiveRig.is_fused, faults)
    assert counts(rig, name) == before


@pytest.mark.parametrize("name", ["radio", "camera"])
@pytest.mark.parametrize("sequence", [0, 1 << 31, 0xFFFFFFF0])
def test_sequence_numbers_that_jump_cost_nothing_and_losses_are_counted_again(
    rig: LiveRig, name: str, sequence: int
) -> None:
    before = counts(rig, name)
    rig.sources[name].sequence = sequence
    processed = rig.stream(name).processed
    rig.feed(lambda rig: rig.stream(name).processed >= processed + FEW)
    assert counts(rig, name) == before
    rig.sources[name].sequence += 3
    rig.feed(lambda rig: counts(rig, name) != before)
    rig.feed(LiveRig.is_fused)
    assert counts(rig, name) - before == {"lost": 3}


@pytest.mark.parametrize("name", ["radio", "camera"])
def test_a_source_that_restarts_is_heard_again_and_nothing_counts_as_lost(rig: LiveRig, name: str) -> None:
    before = counts(rig, name)
    for _ in range(3):
        rig.sources[name].restart()
        processed = rig.stream(name).processed
        rig.feed(lambda rig, before=processed: rig.stream(name).processed > before)
        rig.feed(LiveRig.is_fused)
    assert counts(rig, name) == before


@pytest.mark.parametrize("name", ["radio", "camera"])
def test_a_source_that_restarts_with_another_clock_is_stale_until_it_has_the_right_one(rig: LiveRig, name: str) -> None:
    """It is sound, and in order, but from another time: nothing of it may reach an answer."""
    n = [*rig.sources].index(name)
    rig.sources[name].restart()
    rig.feed(
        lambda rig: rig.answers[-1].modalities[n].reason == rig.stream(name).state == "stale",
        {name: lambda source: source.message(later_ns=-HOUR_NS)},
    )
    rig.sources[name].restart()
    rig.feed(LiveRig.is_fused)
    assert rig.stream(name).state == "live"


def test_a_message_over_the_limit_breaks_its_connection_only_for_a_moment(rig: LiveRig) -> None:
    limit, before = rig.config.streams["camera"].max_message_bytes, counts(rig, "camera")
    rig.sources["camera"].publisher.send((bytes(64), bytes(limit + 1)))
    rig.feed(lambda rig: counts(rig, "camera")["broken_connection"] > before["broken_connection"])
    processed = rig.stream("camera").processed
    rig.feed(lambda rig: rig.stream("camera").processed > processed)
    rig.feed(LiveRig.is_fused)


def test_everything_wrong_at_once_leaves_no_data_and_passes(rig: LiveRig) -> None:
    """Both sensors, every fault in turn: no answer may be made of it."""
    turns = {name: [make for owner, make, _ in FAULTS.values() if owner == name] for name in rig.sources}

    def any_fault(name: str) -> Make:
        return lambda source: turns[name][source.sent % len(turns[name])](source)

    rig.feed(lambda rig: not rig.answers[-1].has_answer, {name: any_fault(name) for name in rig.sources})
    assert {modality.mask for modality in rig.answers[-1].modalities} == {0.0}
    rig.feed(LiveRig.is_fused)


def test_short_messages_that_do_not_continue_each_other_make_no_window(rig: LiveRig) -> None:
    """Chunks of a radio are joined only where they belong together; else there is no radio, and nothing made up."""
    gathered, before = rig.stream("radio").gathered, counts(rig, "radio")
    rig.feed(
        lambda rig: rig.stream("radio").gathered > gathered + FEW and rig.answers[-1].modalities[0].mask == 0.0,
        {"radio": lambda source: source.message(source.content()[:500])},
    )
    assert rig.answers[-1].modalities[0].reason == "silent"
    assert rig.stream("radio").restarted_windows > 0
    rig.feed(LiveRig.is_fused)
    assert counts(rig, "radio") == before
