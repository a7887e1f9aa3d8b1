"""The pure scheduler: pacing, alignment, absence, latest-wins and exact accounting, all in virtual time."""

import itertools

import pytest
from flights import MS, VirtualFlight, feature_of, sensor_header, two_streams
from hypothesis import given
from hypothesis import strategies as st

from edge.config import PipelineConfig
from edge.pipeline.scheduler import SILENT, Scheduler
from edge.transport.wire import Reason


def new_scheduler(config: PipelineConfig | None = None) -> Scheduler:
    return Scheduler(("iq", "image"), two_streams(), config or PipelineConfig(), 0)


def masks(pairing) -> tuple[bool, ...]:
    return tuple(feature is not None for feature in pairing.features)


def test_camera_paces_the_answers_while_both_sensors_live():
    answers = VirtualFlight().fly(2.0)
    fused = [pairing for _, pairing in answers if all(masks(pairing))]
    assert len(fused) >= 55
    assert all(pairing.trigger.modality == "image" for pairing in fused)


def test_a_frame_is_fused_with_the_window_nearest_in_capture_time():
    fused = [pairing for _, pairing in VirtualFlight().fly(2.0) if all(masks(pairing))]
    skews = [abs(pairing.features[0].capture_ns - pairing.features[1].capture_ns) for pairing in fused]
    assert max(skews[2:]) <= 5 * MS


def test_radio_alone_answers_within_150_ms_of_losing_the_camera_and_nothing_is_stale():
    flight = VirtualFlight(outages={"camera": (2000, 7000)})
    answers = flight.fly(9.0)
    last_with_camera_ns = max(ns for ns, pairing in answers if masks(pairing)[1] and ns < 7000 * MS)
    alone = [(ns, p) for ns, p in answers if last_with_camera_ns < ns < 7000 * MS]
    assert alone[0][0] - last_with_camera_ns <= 150 * MS
    assert all(masks(pairing) == (True, False) for _, pairing in alone)
    assert {pairing.reasons[1] for _, pairing in alone} == {SILENT}
    gaps = [later - earlier for (earlier, _), (later, _) in itertools.pairwise(answers)]
    assert max(gaps) <= 150 * MS
    max_age_ns = flight.config.max_age_ms * MS
    for now_ns, pairing in answers:
        assert all(now_ns - feature.capture_ns <= max_age_ns for feature in pairing.features if feature is not None)


def test_camera_paces_again_when_it_is_back():
    answers = VirtualFlight(outages={"camera": (1000, 2000)}).fly(4.0)
    late = [pairing for ns, pairing in answers if ns > 2300 * MS]
    assert late
    assert all(masks(pairing) == (True, True) for pairing in late)


def test_refused_frames_mask_the_camera_at_once_with_their_reason():
    answers = VirtualFlight(refusals={"camera": (1000, 2000, Reason.BLACK)}).fly(2.0)
    during = [(ns, pairing) for ns, pairing in answers if ns > 1050 * MS]
    assert during[0][0] <= 1065 * MS
    assert all(masks(pairing) == (True, False) for _, pairing in during)
    assert {pairing.reasons[1] for _, pairing in during} == {"black"}


def test_no_data_is_said_when_both_are_gone_and_no_old_class_is_repeated():
    answers = VirtualFlight(outages={"camera": (1000, 4000), "radio": (1000, 4000)}).fly(4.0)
    after = [(ns, pairing) for ns, pairing in answers if ns > 1100 * MS]
    assert after
    assert all(pairing.trigger is None and masks(pairing) == (False, False) for _, pairing in after)
    assert after[0][0] <= 1400 * MS
    gaps = [later - earlier for (earlier, _), (later, _) in itertools.pairwise(after)]
    assert gaps
    assert max(gaps) <= 1020 * MS


def test_overloaded_engine_skips_to_the_newest_frame_and_counts_the_rest():
    flight = VirtualFlight(cost_ms={"radio": 0.5, "camera": 100.0})
    answers = flight.fly(3.0)
    camera = flight.scheduler.accounting(flight.now_ns)["camera"]
    assert camera.superseded > 50
    assert camera.balanced
    ages = [ns - p.features[1].capture_ns for ns, p in answers if p.features[1] is not None and p.trigger is not None]
    assert max(ages) <= 300 * MS


def test_message_older_than_max_age_is_dropped_when_its_turn_comes():
    scheduler = new_scheduler()
    scheduler.receive("camera", (sensor_header(0, 0), b""), 10 * MS)
    assert scheduler.take("image", 301 * MS) is None
    camera = scheduler.accounting(301 * MS)["camera"]
    assert (camera.dropped_late, camera.in_flight, camera.balanced) == (1, 0, True)
    assert camera.state == "stale"


def test_frame_without_a_window_near_in_time_is_answered_alone():
    scheduler = new_scheduler(PipelineConfig(max_skew_ms=20.0))
    complete(scheduler, "radio", 0, 10 * MS)
    pairing = complete(scheduler, "camera", 31 * MS, 35 * MS)
    assert masks(pairing) == (False, True)
    assert pairing.reasons[0] == "skewed"


def test_capture_time_in_the_future_is_refused():
    scheduler = new_scheduler()
    scheduler.receive("radio", (sensor_header(0, 100 * MS), b""), 10 * MS)
    assert scheduler.accounting(10 * MS)["radio"].rejected == {"bad_time": 1}


def test_capture_time_that_goes_back_is_refused_unless_the_source_restarted():
    scheduler = new_scheduler()
    scheduler.receive("radio", (sensor_header(5, 50 * MS), b""), 50 * MS)
    scheduler.receive("radio", (sensor_header(6, 40 * MS), b""), 51 * MS)
    scheduler.receive("radio", (sensor_header(0, 30 * MS, epoch=2), b""), 52 * MS)
    radio = scheduler.accounting(52 * MS)["radio"]
    assert radio.rejected == {"bad_time": 1}
    assert (radio.superseded, radio.in_flight) == (1, 1)


def test_gaps_in_sequence_numbers_are_counted_as_lost_but_a_restart_is_not():
    scheduler = new_scheduler()
    for n, (sequence, epoch) in enumerate([(3, 1), (4, 1), (9, 1), (0, 2), (1, 2)]):
        scheduler.receive("radio", (sensor_header(sequence, n, epoch=epoch), b""), n)
    assert scheduler.accounting(9)["radio"].lost_transport == 4


def test_an_absurd_jump_of_the_sequence_is_no_loss():
    scheduler = new_scheduler()
    for n, sequence in enumerate([1, 1 + (1 << 30), 2 + (1 << 30)]):
        scheduler.receive("radio", (sensor_header(sequence, n), b""), n)
    assert scheduler.accounting(9)["radio"].lost_transport == 0


def test_a_sequence_that_begins_anew_without_a_new_epoch_is_followed_from_its_second_message():
    scheduler = new_scheduler()
    for n, sequence in enumerate([1000, 1001, 0, 1, 2, 5]):
        scheduler.receive("radio", (sensor_header(sequence, n), b""), n)
    assert scheduler.accounting(9)["radio"].lost_transport == 2


def test_a_single_wrong_sequence_number_is_no_loss():
    scheduler = new_scheduler()
    for n, sequence in enumerate([1000, 0, 1002, 1 << 31, 1004]):
        scheduler.receive("radio", (sensor_header(sequence, n), b""), n)
    assert scheduler.accounting(9)["radio"].lost_transport == 2


def test_a_refused_message_is_not_counted_as_lost_as_well():
    scheduler = new_scheduler()
    scheduler.receive("radio", (sensor_header(1, 1), b""), 1)
    scheduler.receive("radio", Reason.CRC, 2)
    scheduler.receive("radio", (sensor_header(3, 3), b""), 3)
    assert scheduler.accounting(3)["radio"].lost_transport == 0
    scheduler.receive("radio", Reason.CRC, 4)
    scheduler.receive("radio", (sensor_header(6, 6), b""), 6)
    scheduler.receive("radio", (sensor_header(8, 8), b""), 8)
    assert scheduler.accounting(8)["radio"].lost_transport == 2


def test_a_stream_that_sends_only_rubbish_says_so_instead_of_silent():
    scheduler = new_scheduler()
    complete(scheduler, "radio", 0, 1 * MS)
    scheduler.receive("camera", Reason.MAGIC, 2 * MS)
    assert scheduler.accounting(2 * MS)["camera"].state == "bad_magic"
    assert complete(scheduler, "radio", 3 * MS, 4 * MS).reasons == ("", "bad_magic")


def test_one_bad_message_among_good_ones_masks_nothing():
    scheduler = new_scheduler()
    complete(scheduler, "radio", 0, 1 * MS)
    scheduler.receive("radio", Reason.CRC, 2 * MS)
    assert scheduler.accounting(3 * MS)["radio"].state == "live"


def test_sequence_numbers_may_wrap():
    scheduler = new_scheduler()
    for n, sequence in enumerate([0xFFFFFFFE, 0xFFFFFFFF, 0, 2]):
        scheduler.receive("radio", (sensor_header(sequence, n), b""), n)
    assert scheduler.accounting(9)["radio"].lost_transport == 1


def test_configured_trigger_order_wins_over_the_slowest_stream():
    scheduler = new_scheduler(PipelineConfig(trigger_order=("iq", "image")))
    complete(scheduler, "radio", 0, 1 * MS)
    assert complete(scheduler, "camera", 1 * MS, 5 * MS) is None
    assert complete(scheduler, "radio", 10 * MS, 11 * MS).trigger.modality == "iq"


def complete(scheduler: Scheduler, stream: str, capture_ns: int, now_ns: int):
    modality = two_streams()[stream].modality
    scheduler.receive(stream, (sensor_header(capture_ns // MS, capture_ns), b""), now_ns)
    arrival = scheduler.take(modality, now_ns)
    return scheduler.complete(stream, feature_of(arrival, modality, now_ns), now_ns)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["receive", "garbage", "take", "complete", "refuse", "tick"]),
            st.sampled_from(["radio", "camera"]),
            st.integers(0, 400),
        ),
        max_size=200,
    )
)
def test_every_message_has_exactly_one_fate_whatever_happens(steps):
    scheduler = new_scheduler()
    taken = {"radio": None, "camera": None}
    now_ns = received = 0
    for n, (what, stream, delay_ms) in enumerate(steps):
        now_ns += delay_ms * MS // 4
        modality = two_streams()[stream].modality
        if what == "receive":
            received += 1
            scheduler.receive(stream, (sensor_header(n, now_ns - delay_ms * MS), b""), now_ns)
        elif what == "garbage":
            received += 1
            scheduler.receive(stream, Reason.MAGIC, now_ns)
        elif what == "take" and taken[stream] is None:
            taken[stream] = scheduler.take(modality, now_ns)
        elif what in ("complete", "refuse") and taken[stream] is not None:
            is_good = what == "complete"
            outcome = feature_of(taken[stream], modality, now_ns) if is_good else Reason.NON_FINITE
            pairing = scheduler.complete(stream, outcome, now_ns)
            taken[stream] = None
            if pairing is not None:
                assert all(now_ns - f.capture_ns <= 300 * MS for f in pairing.features if f is not None)
        elif what == "tick":
            scheduler.tick(now_ns)
        streams = scheduler.accounting(now_ns)
        assert all(entry.balanced for entry in streams.values())
        assert sum(entry.received for entry in streams.values()) == received


@pytest.mark.parametrize("stream", ["radio", "camera"])
def test_state_goes_from_starting_to_live_to_silent(stream):
    scheduler = new_scheduler()
    assert scheduler.accounting(0)[stream].state == "starting"
    complete(scheduler, stream, 0, 1 * MS)
    assert scheduler.accounting(2 * MS)[stream].state == "live"
    assert scheduler.accounting(500 * MS)[stream].state == "silent"
