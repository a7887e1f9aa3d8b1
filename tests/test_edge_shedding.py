"""What is left out when the board cannot do it all, when, and for how long: in virtual time."""

import itertools

import numpy as np
import pytest
from flights import MS
from hypothesis import given, settings
from hypothesis import strategies as st
from overload import ORDER, FakeStream, Overload

from edge.config import PipelineConfig, StreamConfig
from edge.pipeline.scheduler import LIVE, SHED
from edge.pipeline.shedding import (
    CALM_NS,
    HEAT_STEP_NS,
    WINDOW_NS,
    Shedder,
    ladder,
    open_shedder,
    shedding_order,
)
from edge.transport.messages import Load
from models.bundle import open_bundle, shipped_bundle

S = 1_000_000_000
EASY = {"radio": FakeStream("iq", 100, 1.0), "camera": FakeStream("image", 30, 8.0)}
ONE_DEVICE = {"radio": FakeStream("iq", 100, 2.0), "camera": FakeStream("image", 30, 40.0)}
"""Together 1.4 times what one processor can do."""
LEVELS = [
    "",
    "image every 2nd",
    "image every 3rd",
    "image every 3rd, iq every 2nd",
    "image every 3rd, iq every 3rd",
    "image off, iq every 3rd",
]


def changes(flight: Overload) -> list[tuple[float, int]]:
    return [(ns / S, load.level) for ns, load in flight.loads]


def test_frames_give_way_first_then_windows_then_all_frames():
    assert [level.name for level in ladder(ORDER)] == LEVELS


def test_a_single_modality_is_never_switched_off():
    assert [level.strides["iq"] for level in ladder(("iq",))] == [1, 2, 3]


def test_the_cameras_of_a_model_come_before_its_radios_whatever_the_spec_s_order():
    modalities = open_bundle(shipped_bundle()).spec.modalities
    assert shedding_order(modalities) == shedding_order(modalities[::-1]) == ("image", "iq")


def test_a_deployment_can_forbid_shedding():
    modalities = open_bundle(shipped_bundle()).spec.modalities
    assert open_shedder(modalities, {}, PipelineConfig(shedding="off"), 0) is None
    assert open_shedder(modalities, {}, PipelineConfig(), 0) is not None


def test_a_board_that_keeps_up_sheds_nothing():
    flight = Overload(EASY).fly(30)
    assert changes(flight) == [(0.0, 0)]
    assert [entry.shed for entry in flight.scheduler.accounting(30 * S).values()] == [0, 0]


@pytest.mark.parametrize(("level", "frames_hz", "windows_hz"), [(1, 15, 100), (2, 10, 100), (3, 10, 50), (4, 10, 33.3)])
def test_each_level_leaves_out_what_its_name_says(level, frames_hz, windows_hz):
    flight = Overload(EASY, heat=lambda _: "hot")
    until_s = HEAT_STEP_NS / S * (level - 1) + 1.1
    before = flight.fly(until_s).scheduler.accounting(int(flight.now_ns))
    after = flight.fly(until_s + 3).scheduler.accounting(int(flight.now_ns))
    assert flight.scheduler.load.name == LEVELS[level]
    rates_hz = [(after[name].processed - before[name].processed) / 3 for name in ("camera", "radio")]
    assert rates_hz == pytest.approx([frames_hz, windows_hz], rel=0.1)


def test_a_hot_board_gets_less_and_less_to_do_and_in_the_end_the_radio_alone():
    flight = Overload(EASY, heat=lambda _: "oc1 under-voltage: 1 times").fly(60)
    assert [level for _, level in changes(flight)] == [0, 1, 2, 3, 4, 5]
    gaps = [later - earlier for (earlier, _), (later, _) in itertools.pairwise(changes(flight)[1:])]
    assert min(gaps) >= HEAT_STEP_NS / S
    assert flight.scheduler.load.why == "the board slows down: oc1 under-voltage: 1 times"
    assert flight.scheduler.accounting(60 * S)["camera"].state == SHED
    _, last = flight.answers[-1]
    assert (last.trigger.modality, last.reasons) == ("iq", ("", SHED))


def test_streams_that_are_thinned_out_stay_live_and_the_camera_goes_on_pacing():
    flight = Overload(EASY, heat=lambda _: "hot").fly(40)
    shed = [pairing for ns, pairing in flight.answers if ns > 11 * S]
    assert {pairing.trigger.modality for pairing in shed} == {"image"}
    assert all(None not in pairing.features for pairing in shed)
    assert {entry.state for entry in flight.scheduler.accounting(40 * S).values()} == {LIVE}


def test_everything_comes_back_step_by_step_once_the_board_has_cooled_down():
    flight = Overload(EASY, heat=lambda now_s: "hot" if now_s < 45 else "").fly(60)
    back = [(second, level) for second, level in changes(flight) if second > 45]
    assert [level for _, level in back] == [4, 3, 2, 1, 0]
    gaps = [later - earlier for (earlier, _), (later, _) in itertools.pairwise(back)]
    assert min(gaps) >= CALM_NS / S
    assert max(gaps) <= (CALM_NS + 2 * WINDOW_NS) / S


def test_a_camera_that_is_too_much_for_its_engine_is_thinned_out_where_the_deployment_is_economical():
    busy, spared = Overload(ONE_DEVICE, 1.0, sheds=False).fly(120), Overload(ONE_DEVICE, 1.0).fly(120)
    assert spared.scheduler.load.name == "image every 2nd"
    assert spared.scheduler.load.why == "image cannot keep up"
    assert spared.busy_ns < 0.7 * busy.busy_ns
    assert np.median(ages_ms(spared)) < 0.75 * np.median(ages_ms(busy))


def test_windows_give_way_after_frames_even_if_it_is_the_radio_that_is_too_much():
    streams = {"radio": FakeStream("iq", 100, 15.0), "camera": FakeStream("image", 30, 8.0)}
    flight = Overload(streams).fly(4.5)
    assert [level for _, level in changes(flight)] == [0, 1, 2, 3]
    assert flight.scheduler.load.why == "iq cannot keep up"
    assert Overload(streams, is_economical=False).fly(4.5).scheduler.load == Load()


def test_calm_is_waited_for_twice_as_long_when_a_step_back_did_not_last():
    flight = Overload(ONE_DEVICE, 1.0).fly(200)
    calm_s = [later - at for (at, level), (later, _) in itertools.pairwise(changes(flight)) if level == 1]
    assert [round(pause) for pause in calm_s[:6]] == [2, 4, 8, 16, 32, 64]


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(
    camera_ms=st.floats(5, 90),
    radio_ms=st.floats(0.5, 15),
    processors=st.sampled_from([1.0, 1.2, 1.5, 2.0]),
    heat=st.lists(st.booleans(), min_size=8, max_size=8),
)
def test_levels_do_not_flap_whatever_the_load(camera_ms, radio_ms, processors, heat):
    """At any border: once the pauses have grown, a change and its undoing are more than a minute apart."""
    streams = {"radio": FakeStream("iq", 50, radio_ms), "camera": FakeStream("image", 15, camera_ms)}
    flight = Overload(streams, processors, heat=lambda now_s: "hot" if heat[int(now_s) % 8] else "").fly(160)
    assert all(abs(b - a) == 1 for (_, a), (_, b) in itertools.pairwise(changes(flight)))
    assert len(changes(flight)) <= 32
    assert all(entry.balanced for entry in flight.scheduler.accounting(int(flight.now_ns)).values())


@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(0, 400)), max_size=300))
def test_the_level_stays_on_the_ladder_and_moves_a_step_a_second_at_most(steps):
    streams = {"camera": StreamConfig(modality="image", endpoint="inproc://c", rate_hz=30.0)}
    shedder = Shedder(ORDER, streams, 0, is_economical=True)
    now_ns, moved_ns, level = 0, -WINDOW_NS, 0
    for is_hot, is_waiting, later_ms in steps:
        now_ns += later_ms * MS
        shedder.note_heat("hot" if is_hot else "")
        if shedder.admits("camera", is_waiting, now_ns):
            shedder.note_inferred("camera", 30 * MS)
        shedder.tick(now_ns)
        if shedder.load.level != level:
            assert abs(shedder.load.level - level) == 1
            assert now_ns - moved_ns >= WINDOW_NS
            moved_ns, level = now_ns, shedder.load.level
        assert shedder.load.name == LEVELS[level]
        assert bool(shedder.load.why) == (level > 0)


def test_the_newest_of_several_frames_that_come_at_once_is_inferred():
    """Also while frames are left out: what was received in one go must not be judged by its first."""
    streams = {"camera": StreamConfig(modality="image", endpoint="inproc://c", rate_hz=30.0)}
    shedder = Shedder(ORDER, streams, 0)
    shedder.note_heat("hot")
    shedder.tick(WINDOW_NS)
    assert shedder.load.level == 1
    at_ns = 2 * WINDOW_NS
    assert shedder.admits("camera", False, at_ns)
    assert shedder.admits("camera", True, at_ns)
    assert not shedder.admits("camera", False, at_ns + 33 * MS)
    assert shedder.admits("camera", False, at_ns + 66 * MS)


@pytest.mark.parametrize("shedding", ["auto", "off"])
@pytest.mark.parametrize("times", [1.5, 2.0, 3.0])
def test_more_than_the_pipeline_can_do_costs_neither_age_nor_throughput(times, shedding):
    """Fake engines, 100 windows and 30 frames a second at most; as much again is superseded, and counted."""
    streams = {
        "radio": FakeStream("iq", times * 100, 10.0),
        "camera": FakeStream("image", times * 30, 1000 / 30),
    }
    flight = Overload(streams, sheds=shedding != "off", is_economical=False).fly(60)
    accounting = flight.scheduler.accounting(int(flight.now_ns))
    assert all(entry.balanced for entry in accounting.values())
    assert accounting["camera"].processed >= 0.9 * 30 * 60
    assert accounting["radio"].processed >= 0.9 * 100 * 60
    assert abs(accounting["camera"].received - times * 30 * 60) <= 1
    for modality, stream in (("iq", streams["radio"]), ("image", streams["camera"])):
        longest_ms = 1000 / stream.rate_hz + stream.cost_ms
        triggered = [(ns, p.trigger) for ns, p in flight.answers if p.trigger and p.trigger.modality == modality]
        assert all(ns - trigger.capture_ns <= longest_ms * MS + 10 for ns, trigger in triggered)


@pytest.mark.parametrize("offset_ms", [0.0, 3.0, 5.0])
def test_two_cameras_with_thrice_what_their_engine_can_do_wait_for_each_other_once(offset_ms):
    streams = {
        "radio": FakeStream("iq", 300, 10.0),
        "front": FakeStream("image", 45, 1000 / 30),
        "down": FakeStream("image", 45, 1000 / 30, offset_ms=offset_ms),
    }
    flight = Overload(streams, is_economical=False).fly(60)
    accounting = flight.scheduler.accounting(int(flight.now_ns))
    assert all(entry.balanced for entry in accounting.values())
    assert accounting["front"].processed + accounting["down"].processed >= 0.9 * 30 * 60
    assert accounting["front"].processed == pytest.approx(accounting["down"].processed, abs=2)
    frames = [(ns, p.trigger) for ns, p in flight.answers if p.trigger and p.trigger.modality == "image"]
    longest_ms = 1000 / 45 + 2 * 1000 / 30
    assert all(ns - trigger.capture_ns <= longest_ms * MS + 10 for ns, trigger in frames)


def test_a_camera_whose_engine_is_slow_is_not_called_silent_and_the_radio_answers_in_between():
    streams = {"radio": FakeStream("iq", 100, 1.0), "camera": FakeStream("image", 100, 90.0)}
    flight = Overload(streams, sheds=False).fly(1.0)
    states = {flight.fly(1.0 + n * 0.007).scheduler.accounting(int(flight.now_ns))["camera"].state for n in range(200)}
    assert states == {LIVE}
    answers = [pairing for ns, pairing in flight.answers if ns > S]
    assert {pairing.trigger.modality for pairing in answers} == {"image", "iq"}
    assert len(answers) >= 80
    assert not {"silent"} & {reason for pairing in answers for reason in pairing.reasons}


def test_an_engine_that_hangs_is_told_as_silence():
    streams = {"radio": FakeStream("iq", 100, 1.0), "camera": FakeStream("image", 30, 1e6)}
    flight = Overload(streams, sheds=False).fly(0.2)
    assert flight.scheduler.accounting(int(flight.now_ns))["camera"].state == "starting"
    flight = Overload({**streams, "camera": FakeStream("image", 30, 8.0)}, sheds=False).fly(1.0)
    flight.streams["camera"] = streams["camera"]
    flight.fly(3.0)
    assert flight.scheduler.accounting(int(flight.now_ns))["camera"].state == "silent"


def ages_ms(flight: Overload) -> list[float]:
    """Return the age of the oldest input of each answer that a frame caused."""
    return [
        (ns - min(feature.capture_ns for feature in pairing.features if feature is not None)) / MS
        for ns, pairing in flight.answers
        if pairing.trigger is not None and pairing.trigger.modality == "image"
    ]
