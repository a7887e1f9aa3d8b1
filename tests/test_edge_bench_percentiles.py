"""The benchmark's statistics: percentiles with samples enough, and ratios of blocks."""

import pytest

from edge.bench.percentiles import MIN_SAMPLES, missing_samples, percentile, ratio_of, spread


@pytest.mark.parametrize("rank", sorted(MIN_SAMPLES))
def test_a_percentile_is_stated_only_with_samples_enough_for_it(rank: int) -> None:
    least = MIN_SAMPLES[rank]
    assert percentile([1.0] * (least - 1), rank) is None
    assert percentile([1.0] * least, rank) == 1.0


def test_percentiles_are_those_of_the_samples() -> None:
    assert [percentile(range(1001), rank) for rank in (50, 90, 99)] == [500.0, 900.0, 990.0]


def test_percentiles_that_lack_samples_are_named_with_what_they_need() -> None:
    assert missing_samples(64) == {"p99": 662}
    assert missing_samples(662) == {}
    assert spread([1.0] * 64).too_few_for == {"p99": 662}


def test_a_ratio_is_that_of_the_medians_with_the_quartiles_of_its_blocks() -> None:
    blocks = [([2.0 * slow] * 10, [slow] * 10) for slow in (1.0, 1.0, 1.0, 1.0)] + [([4.0] * 10, [1.0] * 10)]
    ratio = ratio_of(blocks)
    assert (ratio.value, ratio.low, ratio.high) == (2.0, 2.0, 2.0)


def test_a_machine_that_slows_down_leaves_the_ratio_of_each_block_as_it_was() -> None:
    ratio = ratio_of([([1.5 * slow] * 10, [slow] * 10) for slow in (1.0, 2.0, 4.0, 8.0)])
    assert (ratio.low, ratio.high) == (1.5, 1.5)


def test_few_blocks_give_a_ratio_without_quartiles_and_few_samples_none() -> None:
    assert ratio_of([([2.0] * 10, [1.0] * 10)]).low is None
    assert ratio_of([([2.0] * 9, [1.0] * 10)]) is None
    assert ratio_of([([2.0] * 10, [])]) is None
