"""Faults as they are named, and what becomes of a flight's events."""

import itertools
import math

import pytest
from faulty_flights import BEGIN_NS, TRANSPORT_NS, counted, events, two_sensors

from edge.faults.fault import Fault, check_faults, parse_fault
from edge.faults.injector import FaultPlan
from edge.transport.messages import Kind
from edge.transport.wire import Reason, check_payload, decode_message, encode_header
from models.errors import ConfigError

S = 1_000_000_000


SOUND = list(events(two_sensors(), 6.0))


def befallen(*faults: str, seed: int = 0) -> list:
    """Return 6 s of a flight, as it comes when faults befall it."""
    plan = FaultPlan(faults=tuple(parse_fault(text) for text in faults), seed=seed)
    return list(counted(plan.befall(iter(SOUND), BEGIN_NS), {}))


def of(flying: list, stream: str, start_s: float = 2.0, end_s: float = 4.0) -> list:
    """Return the messages of a stream that arrive within a time."""
    return [e for e in flying if e.stream == stream and start_s <= (e.log_ns - BEGIN_NS) / S < end_s]


def refusals(messages: list) -> set:
    """Return what decoding says of messages: a reason, or None."""
    decoded = [decode_message((encode_header(e.header), e.payload)) for e in messages]
    return {item if isinstance(item, Reason) else None for item in decoded}


@pytest.mark.parametrize("text", ["camera:stuck@10s+5s", "radio.2:off@0.25s", "clock:jump@3s+0.5s", "process:kill@7s"])
def test_a_fault_is_written_as_it_is_read(text):
    assert str(parse_fault(text)) == text


def test_a_fault_says_when_it_begins_and_how_long_it_lasts():
    assert parse_fault("camera:stuck@10s+5s") == Fault(target="camera", kind="stuck", start_s=10.0, duration_s=5.0)
    assert math.isinf(parse_fault("camera:stuck@10s").duration_s)
    assert parse_fault("camera:stuck@10s+5s").window_ns(S, rate=2.0) == (6 * S, 8_500_000_000)
    assert parse_fault("camera:off@1s").window_ns(0) == (S, None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "expected TARGET:KIND@STARTs"),
        ("camera:stuck", "expected TARGET:KIND@STARTs"),
        ("camera:stuck@10", "expected TARGET:KIND@STARTs"),
        ("camera:stuck@-1s", "expected TARGET:KIND@STARTs"),
        ("camera:stuck@nans+1s", "expected TARGET:KIND@STARTs"),
        ("camera@10s", "expected TARGET:KIND@STARTs"),
        ("camera:stuck@1s+0s", "expected a duration above 0 s"),
        ("process:kill@1s+2s", "expected no duration"),
        ("../x:off@1s", "expected TARGET:KIND@STARTs"),
    ],
)
def test_what_is_no_fault_is_refused_with_what_was_expected(text, expected):
    with pytest.raises(ConfigError, match=expected):
        parse_fault(text)


@pytest.mark.parametrize("text", ["sonar:off@1s", "camera:melted@1s", "clock:off@1s", "disk:full@1s", "link:off@1s"])
def test_an_unknown_stream_or_kind_is_refused_with_the_list(text):
    with pytest.raises(ConfigError) as refused:
        check_faults([parse_fault(text)], {"camera", "radio"}, is_live=True)
    assert "one of camera, radio" in str(refused.value)
    listed = ("off", "stuck", "garbage", "wrong", "slow", "delayed", "intermittent", "clock:jump", "link:loss")
    assert all(name in str(refused.value) for name in (*listed, "process:kill", "disk:full"))


def test_a_disk_is_full_only_where_there_is_a_recorder():
    with pytest.raises(ConfigError, match="uav-edge run --fault"):
        check_faults([parse_fault("disk:full@1s")], {"camera"}, is_live=True)
    check_faults([parse_fault("disk:full@1s")], {"camera"}, is_live=True, is_recorded=True)


def test_a_process_is_killed_in_live_replay_alone():
    check_faults([parse_fault("process:kill@1s")], {"camera"}, is_live=True)
    with pytest.raises(ConfigError, match="leave out --exact"):
        check_faults([parse_fault("process:kill@1s")], {"camera"}, is_live=False)


KINDS = ("off", "stuck", "garbage", "wrong", "slow", "delayed", "intermittent")


@pytest.mark.parametrize("stream", ["radio", "camera"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_fault_befalls_its_stream_in_its_time_and_nothing_else(kind, stream):
    flying = befallen(f"{stream}:{kind}@2s+2s")
    other = "camera" if stream == "radio" else "radio"
    assert of(flying, stream) != of(SOUND, stream)
    assert of(flying, other, 0, 9) == of(SOUND, other, 0, 9)
    assert of(flying, "pose", 0, 9) == of(SOUND, "pose", 0, 9)
    assert of(flying, stream, 0, 2) == of(SOUND, stream, 0, 2)
    assert [e for e in of(flying, stream, 4, 9) if e in of(SOUND, stream, 4, 9)] == of(SOUND, stream, 4, 9)


@pytest.mark.parametrize("kind", [*KINDS, "jump"])
def test_the_same_seed_makes_the_same_flight_and_another_seed_another(kind):
    name = "clock:jump" if kind == "jump" else f"radio:{kind}"
    assert befallen(f"{name}@2s+3s", seed=1) == befallen(f"{name}@2s+3s", seed=1)
    others = [befallen(f"{name}@2s+3s", seed=seed) for seed in range(2, 8)]
    is_by_chance = any(other != befallen(f"{name}@2s+3s", seed=1) for other in others)
    assert is_by_chance == (kind not in ("off", "stuck"))


def test_a_fault_without_a_duration_lasts_to_the_end():
    assert of(befallen("camera:off@2s"), "camera", 2, 9) == []


@pytest.mark.parametrize("stream", ["radio", "camera"])
def test_a_stuck_stream_repeats_its_content_with_new_stamps(stream):
    messages = of(befallen(f"{stream}:stuck@2s+2s"), stream)
    assert len({e.payload for e in messages}) == 1
    stamps = [(e.header.sequence, e.header.capture_ns) for e in messages]
    assert stamps == [(e.header.sequence, e.header.capture_ns) for e in of(SOUND, stream)]
    assert refusals(messages) == {None}


@pytest.mark.parametrize("stream", ["radio", "camera"])
def test_garbage_is_refused_before_anybody_looks_into_it_for_more_than_one_reason(stream):
    found = refusals(of(befallen(f"{stream}:garbage@2s+2s"), stream))
    assert None not in found
    assert len(found) >= 4


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("stream", ["radio", "camera"])
def test_wrong_messages_are_well_formed_and_something_else(stream, seed):
    wrong, sound = of(befallen(f"{stream}:wrong@2s+2s", seed=seed), stream), of(SOUND, stream)
    assert {check_payload(e.header, e.payload) for e in wrong} == {None}
    assert len(wrong) == len(sound)
    assert all(a.payload != b.payload or a.header != b.header for a, b in zip(wrong, sound, strict=True))
    assert {Kind(e.header.kind) for e in wrong} == {e.kind for e in wrong}


def test_a_slow_stream_lets_few_messages_through():
    counts = {len(of(befallen("radio:slow@2s+2s", seed=seed), "radio")) for seed in range(8)}
    assert counts <= {200 // every for every in range(4, 13)}
    assert len(counts) > 1


def test_delayed_messages_come_late_in_order_and_all_of_them():
    flying = befallen("camera:delayed@2s+2s")
    messages = [e for e in flying if e.stream == "camera"]
    late_ns = [
        e.log_ns - e.header.capture_ns - TRANSPORT_NS for e in messages if 2 * S <= e.header.capture_ns - S < 3 * S
    ]
    assert len(set(late_ns)) == 1
    assert 0.1 * S <= late_ns[0] <= 0.8 * S
    assert [e.header.sequence for e in messages] == [e.header.sequence for e in of(SOUND, "camera", 0, 9)]
    at_the_end = [e for e in messages if e.log_ns == BEGIN_NS + 4 * S]
    assert len(at_the_end) > 1


def test_delayed_messages_that_are_held_at_the_end_of_the_flight_still_come():
    assert len([e for e in befallen("camera:delayed@5s") if e.stream == "camera"]) == 180


def test_an_intermittent_stream_comes_and_goes():
    messages = of(befallen("radio:intermittent@1s+4s"), "radio", 1, 5)
    pauses = [b.log_ns - a.log_ns for a, b in itertools.pairwise(messages) if b.log_ns - a.log_ns > S // 50]
    assert 40 < len(messages) < 360
    assert len(pauses) >= 3
    assert max(pauses) < 0.7 * S


def test_a_clock_jumps_for_all_sensors_alike_and_back():
    jumps = [
        {
            (a.header.capture_ns - b.header.capture_ns)
            for a, b in zip(flying, SOUND, strict=True)
            if a.header is not None
        }
        for flying in (befallen("clock:jump@2s+2s", seed=seed) for seed in range(6))
    ]
    assert all(len(found) == 2 and 0 in found for found in jumps)
    assert {max(found) > 0 for found in jumps} == {True, False}
    assert all(0.4 * S <= abs(sum(found)) <= 10 * S for found in jumps)


def test_a_lost_link_brings_no_poses():
    flying = befallen("link:loss@2s+2s")
    assert of(flying, "pose") == []
    assert [e for e in flying if e.stream != "pose"] == [e for e in SOUND if e.stream != "pose"]
    assert of(flying, "pose", 4, 9) == of(SOUND, "pose", 4, 9)


def test_a_fault_befalls_what_the_one_before_it_has_left():
    flying = befallen("camera:delayed@2s+2s", "camera:off@3s+0.5s")
    assert of(flying, "camera", 3.0, 3.5) == []


def test_another_fault_changes_nothing_of_the_first():
    first = of(befallen("radio:wrong@2s+2s"), "radio")
    assert of(befallen("radio:wrong@2s+2s", "camera:garbage@1s+4s"), "radio") == first
