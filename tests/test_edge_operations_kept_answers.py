"""Answers that are kept as bytes are the same again."""

import math
import tracemalloc

import msgspec
import pytest
from faulty_flights import fly

from edge.faults.injector import FaultPlan
from edge.operations.kept_answers import KeptAnswers


@pytest.fixture(scope="module")
def answers():
    return fly(FaultPlan(), seconds=3.0).answers


def kept(answers) -> KeptAnswers:
    found = KeptAnswers()
    for answer in answers:
        found.append(answer)
    return found


def test_answers_come_back_as_they_were_given_again_and_again(answers):
    found = kept(answers)
    assert len(found) == len(answers) > 80
    assert list(found) == list(found) == answers
    assert msgspec.json.encode(list(found)) == msgspec.json.encode(answers)


def test_one_is_found_by_its_place_from_either_end_and_several_by_a_slice(answers):
    found = kept(answers)
    assert (found[0], found[7], found[-1]) == (answers[0], answers[7], answers[-1])
    assert found[5:-3:2] == answers[5:-3:2]
    assert list(reversed(found)) == answers[::-1]
    for place in (len(answers), -len(answers) - 1):
        with pytest.raises(IndexError):
            found[place]


def test_without_an_answer_there_is_none():
    assert list(KeptAnswers()) == []
    assert not KeptAnswers()


def test_what_is_no_number_is_kept_too(answers):
    (found,) = kept([msgspec.structs.replace(answers[0], confidence=math.nan)])
    assert math.isnan(found.confidence)


def test_an_answer_is_kept_in_less_than_a_kilobyte(answers):
    tracemalloc.start()
    try:
        found = kept(answers * 20)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 1_000 * len(found)
