import itertools
from typing import Any

import mavlink_samples as samples
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mavlink_radio import MS, RADIO, Radio, S
from pymavlink.dialects.v20 import common

from edge.mavlink.outgoing import lite
from edge.mavlink.outgoing.budget import BURST_S
from edge.mavlink.outgoing.outlet import MAX_OTHERS, MAX_RESULTS, Outlet
from edge.mavlink.wire import codec, standard
from edge.mavlink.wire.codec import Flag

NETWORK = frozenset({"native", "summary"})
ALONE = (samples.modality("iq", weight=1.0), samples.missing("image"))


def result(**changes: Any) -> Any:
    report = codec.report_of(
        samples.answer(**changes), model_id=1, now_ns=905_000_000, max_age_ms=300.0, is_replay=False
    )
    return codec.classification_message(report)


def status() -> Any:
    return codec.status_message(
        codec.StatusReport(
            time_us=5, model_id=1, frames_processed=200, frames_dropped=10, results_dropped=3, latency_p50_us=50_000,
            latency_p99_us=None, input_rates_hz=(100.0,), output_rate_hz=50.0, state=4, present=3,
        )
    )  # fmt: skip


def flooded(radio: Radio, seconds: float, change_every: int) -> list[tuple[int, int]]:
    """Offer 200 answers a second, status, texts and values to a link; return (sequence, ms) of each change."""
    changes = []
    for number in range(round(seconds * 200)):
        radio.now_ns = number * 5 * MS
        class_id = number // change_every % 3
        if number % change_every == 0:
            changes.append((number, radio.now_ns // MS))
        messages = [result(sequence=number, class_id=class_id)]
        if number % 200 == 0:
            messages += [standard.heartbeat(4), status(), status()]
        if number % 20 == 0:
            messages += [standard.named_value("FUS_CLS", 1.0, 0), standard.status_text(6, f"text {number}" * 5)]
        radio.offer(*messages)
    return changes


def delays_ms(radio: Radio, changes: list[tuple[int, int]]) -> list[int]:
    """Return how long changes waited; that a sequence comes again after 1.3 s makes none of them shorter."""
    answers = [(at_ns // MS, one) for at_ns, _, one in radio.sent if one.get_type().startswith("FUSION_CLASSIFICATION")]
    return [
        min(
            at_ms - changed_ms for at_ms, one in answers if at_ms >= changed_ms and one.sequence % 256 == sequence % 256
        )
        for sequence, changed_ms in changes
    ]


@pytest.mark.parametrize("period_ns", [0, S], ids=["each answer", "summed up"])
@pytest.mark.parametrize("bytes_s", [200.0, 600.0])
def test_under_overload_every_change_is_sent_within_a_tenth_of_a_second_and_so_are_heartbeats(
    period_ns: int, bytes_s: float
) -> None:
    radio = Radio(bytes_s, period_ns=period_ns)
    changes = flooded(radio, 20, change_every=300)

    assert len(changes) == 14
    assert max(delays_ms(radio, changes)) <= 100
    beats_ns = [at_ns for at_ns, _, message in radio.sent if message.get_type() == "HEARTBEAT"]
    assert beats_ns == [n * S for n in range(20)]
    assert radio.most_in_a_second() <= bytes_s + BURST_S * bytes_s


@pytest.mark.parametrize(
    "question",
    [common.MAVLink_timesync_message(tc1=1, ts1=1), common.MAVLink_param_value_message(b"FUS_TEXT", 1.0, 9, 1, 0)],
    ids=["what time is it", "what is set"],
)
def test_who_asks_again_and_again_holds_up_neither_changes_nor_answers_nor_heartbeats(question: Any) -> None:
    radio = Radio(bytes_s=576)
    changes = []
    for number in range(2_000):
        radio.now_ns = number * 10 * MS
        if number % 300 == 0:
            changes.append((number, radio.now_ns // MS))
        beat = [standard.heartbeat(4)] if number % 100 == 0 else []
        radio.offer(result(sequence=number, class_id=number // 300), *[question] * (number % 5 == 0), *beat)

    assert max(delays_ms(radio, changes)) <= 100
    assert len(radio.named("HEARTBEAT")) == 20
    assert len(radio.named("FUSION_CLASSIFICATION")) >= 20


def test_a_heartbeat_goes_before_the_answers_to_all_commands_that_wait() -> None:
    radio = Radio(bytes_s=200)
    radio.offer(*[common.MAVLink_command_ack_message(31_010, 0)] * 60)
    waiting = 60 - len(radio.sent)
    radio.now_ns += 100 * MS
    radio.offer(standard.heartbeat(4))

    assert waiting > 30
    assert len(radio.named("HEARTBEAT")) == 1


OFFER = st.tuples(
    st.integers(0, 200),
    st.integers(0, 3),
    st.sampled_from(["result", "alone", "beat", "status", "text", "ack", "time", "name", "value", "past", "choked"]),
)


@given(st.lists(OFFER, max_size=150), st.floats(200, 5_000), st.sampled_from([0, S]), st.sampled_from([RADIO, NETWORK]))
def test_in_no_second_a_link_carries_more_than_its_budget_and_what_is_saved_up(
    offers: list[tuple[int, int, str]], bytes_s: float, period_ns: int, bearer: frozenset[Any]
) -> None:
    radio = Radio(bytes_s, bearer, period_ns)
    for number, (pause_ms, class_id, kind) in enumerate(offers):
        radio.now_ns += pause_ms * MS
        if kind == "past":
            radio.outlet.recall(History(40))
        if kind == "choked" and radio.outlet.budget is not None:
            radio.outlet.budget.on_radio(class_id * 25, radio.now_ns)
        radio.offer(
            {
                "result": result(sequence=number, class_id=class_id),
                "alone": result(sequence=number, class_id=class_id, modalities=ALONE),
                "beat": standard.heartbeat(4),
                "status": status(),
                "text": standard.status_text(class_id + 3, f"text {number} " * 9),
                "ack": common.MAVLink_command_ack_message(31_010, 0),
                "time": common.MAVLink_timesync_message(tc1=class_id, ts1=1),
                "name": codec.class_info_message(samples.MODEL_ID, 1, samples.LABELS),
                "value": common.MAVLink_param_value_message(b"FUS_TEXT", 1.0, 9, 1, 0),
            }.get(kind, standard.named_value("FUS_CLS", 1.0, 0))
        )
    radio.wait(3)

    assert not radio.sent or radio.most_in_a_second() <= bytes_s + BURST_S * bytes_s
    counted = sum(len(frame) for frame in radio.transport.sent)
    assert counted == sum(size for _, size, _ in radio.sent)
    live = [
        one.sequence
        for _, _, one in radio.sent
        if one.get_type().startswith("FUSION_CLASSIFICATION") and not one.flags & Flag.BACKFILL
    ]
    assert live == sorted(live)


def test_answers_that_wait_travel_together_and_the_newest_win() -> None:
    radio = Radio(period_ns=0)
    for number in range(400):
        radio.offer(result(sequence=number))
    waiting = radio.outlet.queued
    radio.wait(1)

    whole = [message.sequence for message in radio.named("FUSION_CLASSIFICATION")]
    short = radio.named("FUSION_CLASSIFICATION_LITE")
    assert waiting == MAX_RESULTS
    assert whole == list(range(len(whole)))
    later = [record.sequence for at_ns, _, record in radio.sent if at_ns and record in short]
    assert later[0] == (400 - MAX_RESULTS) % 256
    assert later == sorted(later)


def test_an_answer_that_waited_two_seconds_is_not_sent_as_new() -> None:
    radio = Radio(bytes_s=200, period_ns=0)
    for number in range(400):
        radio.offer(result(sequence=number))
    radio.wait(5)
    sent = len(radio.named("FUSION_CLASSIFICATION")) + len(radio.named("FUSION_CLASSIFICATION_LITE"))

    assert max(at_ns for at_ns, _, _ in radio.sent) <= 2 * S
    assert sent + radio.outlet.results_dropped == 400
    assert radio.outlet.queued == 0


def test_what_waited_while_the_port_was_gone_is_dropped_and_counted() -> None:
    radio = Radio()
    radio.offer(result(sequence=0))
    for number in range(1, 6001):
        radio.now_ns = number * 10 * MS
        radio.outlet.offer([result(sequence=number), standard.heartbeat(4)], radio.now_ns, is_open=False)
    radio.now_ns += 10 * MS
    radio.offer(result(sequence=6001)).wait(3)

    sent = radio.named("FUSION_CLASSIFICATION")
    assert [message.sequence for message in sent] == [0, 6001]
    assert radio.outlet.results_dropped == 6000
    assert radio.named("HEARTBEAT") == []


def test_a_link_without_a_budget_carries_everything_at_once_as_it_is() -> None:
    radio = Radio(None, NETWORK, 0)
    messages = [*(result(sequence=n) for n in range(300)), standard.heartbeat(4), standard.status_text(6, "drone")]
    radio.offer(*messages)

    assert [message for _, _, message in radio.sent if message in messages[:300]] == messages[:300]
    assert {id(message) for _, _, message in radio.sent} == set(map(id, messages))
    assert radio.outlet.results_dropped == 0


@pytest.mark.parametrize(
    ("bearer", "names"),
    [
        ({"native"}, {"HEARTBEAT": 1, "FUSION_CLASSIFICATION": 1, "FUSION_STATUS": 1}),
        ({"tunnel"}, {"HEARTBEAT": 1, "TUNNEL": 2}),
        ({"summary"}, {"HEARTBEAT": 1, "STATUSTEXT": 1, "NAMED_VALUE_FLOAT": 1}),
        ({"native", "tunnel"}, {"HEARTBEAT": 1, "FUSION_CLASSIFICATION": 1, "FUSION_STATUS": 1, "TUNNEL": 2}),
    ],
)
def test_messages_travel_as_the_bearers_say(bearer: set[Any], names: dict[str, int]) -> None:
    sent: list[Any] = []

    def send(message: Any) -> int:
        sent.append(message)
        return 1

    values = [standard.status_text(6, "drone"), standard.named_value("FUS_CLS", 1.0, 0)]
    Outlet(send, frozenset(bearer)).offer([standard.heartbeat(4), result(), status(), *values], 0)

    assert samples.names(sent) == names


def test_the_status_of_a_link_says_what_waits_and_was_dropped_there() -> None:
    radio = Radio(period_ns=0)
    for number in range(400):
        radio.offer(result(sequence=number))
    original = status()
    radio.offer(original).wait(4)

    (sent,) = radio.named("FUSION_STATUS")
    assert sent.results_dropped == 3 + radio.outlet.results_dropped > 300
    assert (original.results_dropped, original.results_queued) == (3, 0)


def test_of_what_replaces_itself_only_the_newest_waits() -> None:
    radio = Radio(bytes_s=200)
    for number in range(500):
        radio.offer(status(), standard.named_value("FUS_CLS", float(number), 0))
    radio.wait(10)

    assert len(radio.named("FUSION_STATUS")) <= 3
    assert radio.named("NAMED_VALUE_FLOAT")[-1].value == 499.0
    assert radio.outlet.others_dropped == 0


def test_texts_that_find_no_room_are_bounded_and_counted_and_take_nothing_from_the_status() -> None:
    radio = Radio(bytes_s=200)
    radio.offer(status())
    for number in range(500):
        radio.offer(standard.status_text(6, f"{number:50d}"))
    radio.offer(status())
    for number in range(500):
        radio.offer(standard.status_text(6, f"{number:50d}"))
    dropped = radio.outlet.others_dropped
    radio.wait(60)

    assert len(radio.named("STATUSTEXT")) + dropped == 1_000
    assert 0 < dropped >= 1_000 - 2 * MAX_OTHERS
    assert len(radio.named("FUSION_STATUS")) == 2


def test_an_answer_about_the_time_does_not_wait() -> None:
    radio = Radio(bytes_s=200)
    for _ in range(100):
        radio.offer(common.MAVLink_timesync_message(tc1=1, ts1=1))
    sent = len(radio.sent)
    radio.wait(10)

    assert 0 < sent < 100
    assert len(radio.sent) == sent


class History:
    """Answers of the past, one batch after the other."""

    def __init__(self, count: int) -> None:
        self._left = (lite.marked(lite.lite_of(result(sequence=n)), Flag.BACKFILL) for n in range(count))
        self.is_done = False

    def batch(self, most: int) -> list[Any]:
        records = list(itertools.islice(self._left, most))
        self.is_done = not records
        return records


def test_the_past_is_sent_with_a_fifth_of_the_budget_and_only_what_the_present_leaves() -> None:
    radio = Radio(bytes_s=600)
    radio.outlet.recall(History(10_000))
    radio.wait(60)
    records = radio.named("FUSION_CLASSIFICATION_LITE")

    spent = sum(size for _, size, _ in radio.sent)
    assert 0.9 * 60 * 120 <= spent <= 60 * 120 + 2 * 120 + 200
    assert [record.sequence for record in records] == [n % 256 for n in range(len(records))]
    assert all(Flag.BACKFILL in Flag(record.flags) for record in records)


@pytest.mark.parametrize("bytes_s", [200.0, 600.0])
def test_the_past_finds_its_way_without_a_tunnel_too(bytes_s: float) -> None:
    radio = Radio(bytes_s, NETWORK)
    radio.outlet.recall(History(10_000))
    radio.wait(60)

    spent = sum(size for _, size, _ in radio.sent)
    assert 0.9 * 60 * 0.2 * bytes_s <= spent <= 62 * 0.2 * bytes_s + 200


def test_only_a_link_that_carries_our_messages_carries_the_past() -> None:
    assert [Radio(bearer=frozenset({way})).outlet.carries_past for way in ("native", "tunnel", "summary")] == [
        True, True, False,
    ]  # fmt: skip


def test_what_says_the_same_as_ever_and_waits_is_history_once_something_changes() -> None:
    radio = Radio(period_ns=0)
    for number in range(60):
        radio.offer(result(sequence=number))
    waiting, dropped = radio.outlet.queued, radio.outlet.results_dropped
    radio.offer(result(sequence=60, class_id=2)).wait(3)

    assert waiting > 20
    assert radio.outlet.results_dropped == dropped + waiting
    assert radio.named("FUSION_CLASSIFICATION")[-1].sequence == 60
    assert radio.sent[-1][2].sequence == 60


def test_every_answer_is_told_or_summed_up_or_counted_as_dropped() -> None:
    radio = Radio(None, NETWORK, S)
    told: list[int] = []
    for number in range(1_000):
        radio.now_ns = number * 5 * MS
        radio.offer(result(sequence=number, class_id=number // 70))
    for _, _, message in radio.sent:
        told.append(message.sequence)
    changes = [number for number in range(1_000) if number % 70 == 0]

    assert told == changes
    assert radio.outlet.results_dropped == changes[-1] - len(changes) + 1


def test_the_past_never_delays_the_present() -> None:
    radio = Radio()
    radio.outlet.recall(History(10_000))
    changes = flooded(radio, 10, change_every=300)
    at_ms = {message.sequence: at_ns // MS for at_ns, _, message in radio.sent if hasattr(message, "latency")}

    assert max(at_ms[sequence] - changed_ms for sequence, changed_ms in changes) <= 100


def test_a_past_that_is_all_sent_is_over() -> None:
    radio = Radio(None, NETWORK, 0)
    radio.outlet.recall(History(20))
    radio.wait(10)

    assert len(radio.named("FUSION_CLASSIFICATION_LITE")) == 20
