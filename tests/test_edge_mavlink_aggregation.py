import itertools
from typing import Any

import mavlink_samples as samples
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.mavlink.outgoing.aggregation import MAX_COUNT, Aggregation, Told
from edge.mavlink.wire import codec
from edge.mavlink.wire.codec import Flag

MS = 1_000_000
S = 1_000 * MS
ALONE = (samples.modality("iq", weight=1.0), samples.missing("image"))


def result(**changes: Any) -> Any:
    report = codec.report_of(
        samples.answer(**changes), model_id=1, now_ns=905_000_000, max_age_ms=300.0, is_replay=False
    )
    return codec.classification_message(report)


def told(aggregation: Aggregation, results: list[Any], period_ns: int = 10 * MS) -> list[tuple[int, Told]]:
    found = [(n, aggregation.take(message, n * period_ns)) for n, message in enumerate(results)]
    return [(n, one) for n, one in found if one is not None]


def test_a_steady_class_is_told_at_once_and_then_every_period_with_how_many_it_stands_for() -> None:
    found = told(Aggregation(S), [result(sequence=n) for n in range(301)])

    assert [(n, one.answers, one.is_change) for n, one in found] == [
        (0, 1, True), (100, 100, False), (200, 100, False), (300, 100, False),
    ]  # fmt: skip
    assert [Flag.AGGREGATED in Flag(one.message.flags) for _, one in found] == [False, True, True, True]
    assert [one.message.sequence for _, one in found] == [0, 100, 200, 300]


@pytest.mark.parametrize(
    "changes", [{"class_id": 2}, {"modalities": ALONE}, {"confidence": 0.3}], ids=["class", "modality", "confidence"]
)
def test_a_change_is_told_at_once(changes: dict[str, Any]) -> None:
    found = told(Aggregation(S), [result() for _ in range(50)] + [result(**changes)])

    assert [(n, one.answers, one.is_change) for n, one in found] == [(0, 1, True), (50, 1, True)]


def test_a_confidence_that_wavers_about_the_threshold_makes_no_change() -> None:
    wavering = [result(confidence=confidence) for confidence in (0.7, *itertools.repeat(0.46, 20), 0.54, 0.46, 0.54)]
    crossing = [result(confidence=confidence) for confidence in (0.7, 0.44, 0.54, 0.56, 0.46, 0.44)]

    assert [n for n, _ in told(Aggregation(S), wavering)] == [0]
    assert [n for n, _ in told(Aggregation(S), crossing)] == [0, 1, 3, 5]


def test_without_a_period_every_answer_is_told_as_it_is() -> None:
    results = [result(sequence=n) for n in range(5)]
    found = told(Aggregation(0), results)

    assert [one.message for _, one in found] == results
    assert [one.is_change for _, one in found] == [True, False, False, False, False]


def test_the_last_answers_are_told_although_none_follows() -> None:
    aggregation = Aggregation(S)
    told(aggregation, [result() for _ in range(3)])

    early, late, again = (aggregation.due(now_ns) for now_ns in (S - 1, S, 3 * S))
    assert late is not None
    assert (early, late.answers, again) == (None, 2, None)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 300 * MS)), max_size=60))
def test_the_one_that_came_in_is_never_changed_and_counts_never_exceed_what_came(
    answers: list[tuple[int, int]],
) -> None:
    aggregation, now_ns, counted, results = Aggregation(S), 0, 0, []
    for class_id, pause_ns in answers:
        now_ns += pause_ns
        results.append(result(class_id=class_id))
        one = aggregation.take(results[-1], now_ns)
        counted += one.answers if one is not None else 0

    assert counted <= len(answers)
    assert not any(Flag.AGGREGATED in Flag(message.flags) for message in results)


def test_a_count_that_fills_its_field_is_told_early() -> None:
    found = told(Aggregation(60 * S), [result() for _ in range(MAX_COUNT + 1)])

    assert [(n, one.answers) for n, one in found] == [(0, 1), (MAX_COUNT, MAX_COUNT)]


def test_an_answer_without_a_confidence_is_a_guess() -> None:
    found = told(Aggregation(S), [result(confidence=0.9), result(confidence=float("nan"))])

    assert [n for n, _ in found] == [0, 1]
