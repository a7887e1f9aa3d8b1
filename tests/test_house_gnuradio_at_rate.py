"""What counts as an exact account of a flowgraph's samples, where its three witnesses need not agree."""

from types import SimpleNamespace
from typing import Any

import pytest
from gnuradio_at_rate import account

COUNTS = {"received": 900, "lost": 90, "span": 990, "joined_at": 10, "stale": 100}
SEEN = {"samples": 800, "torn": 0, "overwritten": 0, "missing": 190, "missing_blocks": 2}


def accounted(sent: int, counts: dict[str, int], seen: dict[str, int]) -> dict[str, Any]:
    told = (
        "{received} samples received and {lost} lost of {span} from number {joined_at} on, in 7 messages, 0 refused;"
        " {stale} thrown away, too old; 0 lost by the radio, 0 restarts"
    )
    pipeline: Any = SimpleNamespace(**seen)
    return account(sent, told.format(**counts), pipeline, {})


def test_samples_that_were_lost_or_thrown_away_are_accounted_for_where_all_agree() -> None:
    found = accounted(1000, COUNTS, SEEN)
    assert found["accounted"]
    assert (found["before_joining"], found["received"], found["lost"], found["stale"]) == (10, 900, 90, 100)


@pytest.mark.parametrize(
    ("who", "sent", "counts", "seen"),
    [
        ("sink", 1001, {}, {}),
        ("source", 1000, {"span": 991}, {}),
        ("pipeline", 1000, {}, {"samples": 799}),
        ("numbers", 1000, {}, {"missing": 189}),
        ("numbers", 1000, {}, {"torn": 1}),
        ("numbers", 1000, {}, {"overwritten": 1}),
    ],
)
def test_a_sample_that_one_of_them_misses_is_not_accounted_for(
    who: str, sent: int, counts: dict[str, int], seen: dict[str, int]
) -> None:
    found = accounted(sent, COUNTS | counts, SEEN | seen)
    assert not found["accounted"]
    assert [name for name, agrees in found["agrees"].items() if not agrees] == [who]


def test_a_source_that_told_nothing_is_an_error() -> None:
    with pytest.raises(AssertionError, match="died at once"):
        account(1, "died at once", SimpleNamespace(**SEEN), {})  # type: ignore[arg-type]
