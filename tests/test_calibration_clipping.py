import math

import numpy as np
import pytest

from calibration.commands import collect, quantize
from calibration.quantization.clipping import (
    METHODS,
    clip_range,
    expected_sqnr_db,
    least_divergence,
    percentile,
    sqnr_db,
)
from calibration.quantization.histogram import histogram
from models.errors import ConfigError, InputError
from models.quantization import INT8_SYMMETRIC, SCHEMES, UINT8, affine, fake_quantize

BIN = 2 / 4096  # of a value of 1: what a histogram cannot tell apart


def normal(count=20_000, outlier=0.0):
    values = np.random.default_rng(3).normal(size=count).astype(np.float32)
    return np.append(values, np.float32(outlier))


def test_minmax_is_exact():
    values = normal(outlier=7.25)
    assert clip_range(histogram(values), "minmax", UINT8) == (float(values.min()), 7.25)


def test_percentile_leaves_out_half_of_the_rest_at_either_end():
    low, high = percentile(histogram(np.linspace(-1, 1, 10_001, dtype=np.float32)), 99)
    assert (low, high) == pytest.approx((-0.99, 0.99), abs=2 * BIN)


def test_percentile_of_a_constant_is_that_constant():
    assert percentile(histogram(np.full(100, 0.3, np.float32)), 99.99) == pytest.approx((0.3, 0.3), abs=1e-6)


@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)
@pytest.mark.parametrize("outlier", [0.0, 8.0, 300.0])
def test_mse_makes_no_more_error_than_any_other_method(scheme, outlier):
    values = normal(outlier=outlier)
    found = histogram(values)
    errors = {}
    for method in METHODS:
        how = affine(*clip_range(found, method, scheme), scheme)
        errors[method] = float(np.sum((fake_quantize(values, how) - values) ** 2))
    slack = 1.03  # bins and steps of the search
    assert errors["mse"] <= slack * min(errors.values())


def test_mse_is_minmax_where_clipping_only_costs():
    values = np.tile(np.linspace(0, 1, 256, dtype=np.float32), 4)
    assert clip_range(histogram(values), "mse", UINT8) == (0.0, 1.0)


def test_entropy_is_not_minmax_in_disguise():
    values = np.random.default_rng(0).laplace(size=500_000).astype(np.float32)
    low, high = clip_range(histogram(values), "entropy", INT8_SYMMETRIC)
    assert low == -high
    assert high < 0.9 * float(np.abs(values).max())


def test_entropy_keeps_all_of_what_its_levels_can_tell():
    values = np.repeat(np.arange(1, 65, dtype=np.float32), 100)
    assert least_divergence(histogram(values), 128)[1] == 64


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)
@pytest.mark.parametrize("values", [[0, 0, 0], [2.5] * 5, [-1e-30, 0], [-3e38, 3e38], [1e-20, 1e20]])
def test_every_method_answers_odd_tensors_with_a_usable_range(method, scheme, values):
    taken = np.array(values, np.float32)
    low, high = clip_range(histogram(taken), method, scheme)
    assert min(float(taken.min()), 0) <= low <= high <= max(float(taken.max()), 0)
    assert math.isfinite(affine(low, high, scheme).scale)


@pytest.mark.parametrize("values", [[], [np.nan], [1.0, np.inf]])
def test_a_tensor_that_is_not_finite_has_no_range(values):
    with pytest.raises(InputError, match="expected finite values only"):
        clip_range(histogram(np.array(values, np.float32)), "mse", UINT8)


def test_an_unknown_method_is_refused():
    with pytest.raises(ConfigError, match="expected one of mse, minmax"):
        clip_range(histogram(np.ones(1, np.float32)), "best", UINT8)


def test_the_histogram_foretells_the_noise():
    values = normal()
    found = histogram(values)
    how = affine(*clip_range(found, "mse", UINT8), UINT8)
    assert expected_sqnr_db(found, how) == pytest.approx(sqnr_db(values, fake_quantize(values, how)), abs=0.2)


def test_a_ratio_without_noise_is_infinite_and_one_without_signal_minus_infinite():
    ones, zeros = np.ones(3, np.float32), np.zeros(3, np.float32)
    assert sqnr_db(ones, ones) == math.inf
    assert sqnr_db(zeros, ones) == -math.inf
    assert sqnr_db(ones, np.full(3, 0.9)) == pytest.approx(20)
    assert sqnr_db(ones, np.array([1, 1, np.inf])) == -math.inf
    assert not sqnr_db(ones, np.array([1, 1, np.nan])) >= 0


def test_the_commands_offer_every_method():
    assert collect.METHODS == quantize.METHODS == METHODS
