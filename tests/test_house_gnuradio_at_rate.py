"""What counts as an exact account of a flowgraph's samples, where its three witnesses need not agree."""

from typing import Any

import pytest
from gnuradio_at_rate import PERIOD, BlockNumbers, account

from edge.transport.wire import Header

JOINED_AT = PERIOD - 10
COUNTS = {"received": 900, "lost": 90, "span": 990, "joined_at": JOINED_AT, "stale": 100}
SENT = JOINED_AT + 990
BLOCKS = [(0, 200), (390, 990)]
"""Samples that come through, counted from the first that the source received."""


def seen(*blocks: tuple[int, int], at: int = JOINED_AT) -> BlockNumbers:
    """Return what a pipeline knows that gets these blocks, from a sample's number to before another's."""
    numbers = BlockNumbers()
    for sequence, (begin, end) in enumerate(blocks):
        numbers.count(header(end - begin, sequence), ((at + begin) % PERIOD, (at + end - 1) % PERIOD))
    return numbers


def header(samples: int, sequence: int) -> Header:
    return Header(**dict.fromkeys(Header._fields, 0) | {"dim0": samples, "sequence": sequence})


def accounted(sent: int, counts: dict[str, int], numbers: BlockNumbers) -> dict[str, Any]:
    told = (
        "{received} samples received and {lost} lost of {span} from number {joined_at} on, in 7 messages, 0 refused;"
        " {stale} thrown away, too old; 0 lost by the radio, 0 restarts"
    )
    return account(sent, told.format(**counts), numbers, {})


def disagreeing(found: dict[str, Any]) -> list[str]:
    return [name for name, agrees in found["agrees"].items() if not agrees]


@pytest.mark.parametrize(
    "blocks",
    [BLOCKS, [(190, 990)], [(0, 800)], [(100, 500), (590, 990)], [(60, 400), (460, 920)]],
    ids=["between", "before the first", "after the last", "before and between", "everywhere"],
)
def test_samples_that_were_lost_or_thrown_away_are_accounted_for_wherever_they_lie(
    blocks: list[tuple[int, int]],
) -> None:
    found = accounted(SENT, COUNTS, seen(*blocks))
    assert found["accounted"]
    assert (found["before_joining"], found["received"], found["lost"], found["stale"]) == (JOINED_AT, 900, 90, 100)


def test_a_flight_of_which_all_was_too_old_is_accounted_for() -> None:
    assert accounted(SENT, COUNTS | {"stale": 900}, seen())["accounted"]


@pytest.mark.parametrize(
    ("who", "sent", "counts", "blocks"),
    [
        (["sink"], SENT + 1, {}, BLOCKS),
        (["source", "numbers"], SENT, {"span": 991}, BLOCKS),
        (["pipeline", "numbers"], SENT, {}, [(0, 200), (391, 990)]),
        (["numbers"], SENT, {"received": 990, "lost": 0, "stale": 0}, [(1, 991)]),
    ],
)
def test_a_sample_that_one_of_them_misses_is_not_accounted_for(
    who: list[str], sent: int, counts: dict[str, int], blocks: list[tuple[int, int]]
) -> None:
    found = accounted(sent, COUNTS | counts, seen(*blocks))
    assert not found["accounted"]
    assert disagreeing(found) == who


def test_a_gap_longer_than_the_numbers_tell_apart_is_accounted_for() -> None:
    counts = COUNTS | {"span": PERIOD + 990, "received": PERIOD + 900, "stale": PERIOD + 100}
    assert accounted(SENT + PERIOD, counts, seen((0, 200), (PERIOD + 390, PERIOD + 990)))["accounted"]


def test_a_block_that_is_not_as_long_as_its_numbers_say_is_not_accounted_for() -> None:
    numbers = seen((0, 200))
    numbers.count(header(600, 1), ((JOINED_AT + 389) % PERIOD, (JOINED_AT + 989) % PERIOD))
    assert disagreeing(accounted(SENT, COUNTS, numbers)) == ["numbers"]


def test_a_block_that_was_written_again_before_it_was_read_is_not_accounted_for() -> None:
    numbers = seen((0, 200))
    numbers.count(header(600, 1), None)
    assert disagreeing(accounted(SENT, COUNTS, numbers)) == ["numbers"]


def test_a_source_that_told_nothing_is_an_error() -> None:
    with pytest.raises(AssertionError, match="died at once"):
        account(1, "died at once", BlockNumbers(), {})
