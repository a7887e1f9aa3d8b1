import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from calibration.quantization.histogram import BINS, histogram, merged

VALUES = arrays(
    np.float32, st.integers(0, 40), elements=st.floats(width=32, allow_subnormal=True) | st.floats(-2, 2, width=32)
)


def same(one, other):
    fields = ("exponent", "minimum", "maximum", "zeros", "not_finite")
    assert [getattr(one, name) for name in fields] == [getattr(other, name) for name in fields]
    np.testing.assert_array_equal(one.counts, other.counts)


@given(one=VALUES, other=VALUES)
def test_parts_can_be_merged_in_either_order(one, other):
    same(merged(histogram(one), histogram(other)), merged(histogram(other), histogram(one)))


@given(one=VALUES, other=VALUES, third=VALUES)
def test_parts_can_be_merged_in_any_grouping(one, other, third):
    a, b, c = histogram(one), histogram(other), histogram(third)
    same(merged(merged(a, b), c), merged(a, merged(b, c)))


@given(values=VALUES, batch=st.integers(1, 7), seed=st.integers(0, 9))
def test_neither_batch_size_nor_order_leaves_a_trace(values, batch, seed):
    shuffled = np.random.default_rng(seed).permutation(values)
    found = histogram(shuffled[:0])
    for start in range(0, len(values), batch):
        found = merged(found, histogram(shuffled[start : start + batch]))
    same(found, histogram(values))


@given(values=VALUES)
def test_every_finite_value_is_in_the_bin_that_spans_it(values):
    found = histogram(values)
    finite = values[np.isfinite(values)].astype(np.float64)
    edges = (np.arange(2 * BINS + 1) - BINS) * found.width
    np.testing.assert_array_equal(found.counts, np.histogram(finite, edges)[0])
    assert found.count == len(finite)
    assert found.not_finite == len(values) - len(finite)
    assert found.zeros == np.count_nonzero(finite == 0)


def test_exact_zeros_are_left_out_of_the_weighted_values():
    values, counts = histogram(np.array([0, 0, 0, 1.0, -1.0], np.float32)).weighted_values()
    assert counts.tolist() == [1, 1]
    np.testing.assert_allclose(values, [-1, 1], atol=2 / BINS)


def test_an_empty_histogram_says_so():
    empty = histogram(np.array([np.nan, np.inf], np.float32))
    assert (empty.count, empty.not_finite, empty.minimum, empty.maximum) == (0, 2, np.inf, -np.inf)
