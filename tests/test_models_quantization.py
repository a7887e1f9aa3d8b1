import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import InputError
from models.quantization import (
    INT8,
    INT8_SYMMETRIC,
    SCHEMES,
    UINT8,
    affine,
    along,
    dequantize,
    fake_quantize,
    fake_quantize_weights,
    quantize,
    quantize_bias,
    quantize_weights,
    symmetric_scales,
    weight_axis,
    weight_scales,
)

ENDS = st.floats(-1e6, 1e6, width=32)
ROUNDING = 1e-5  # of a step: float32 products


@pytest.mark.parametrize("scheme", [INT8_SYMMETRIC, UINT8, INT8])
@given(ends=st.tuples(ENDS, ENDS), values=st.lists(ENDS, min_size=1, max_size=20))
def test_within_the_range_the_error_is_at_most_half_a_step(scheme, ends, values):
    how = affine(min(ends), max(ends), scheme)
    low, high = min(*ends, 0.0), max(*ends, 0.0)
    inside = np.clip(np.array(values, np.float32), low, high)
    error = np.abs(fake_quantize(inside, how) - inside)
    # where zero's integer is rounded, an end may lie half a step beyond the last integer
    assert error.max() <= how.scale * ((0.5 if scheme.is_symmetric else 1.0) + ROUNDING * 100)


@pytest.mark.parametrize("scheme", [INT8_SYMMETRIC, UINT8, INT8])
@given(ends=st.tuples(ENDS, ENDS))
def test_zero_is_exact_and_quantizing_twice_changes_nothing(scheme, ends):
    how = affine(min(ends), max(ends), scheme)
    assert fake_quantize(np.zeros(1, np.float32), how)[0] == 0
    integers = np.arange(scheme.lowest, scheme.highest + 1).astype(scheme.dtype)
    np.testing.assert_array_equal(quantize(dequantize(integers, how), how), integers)


def test_each_target_has_the_integers_that_its_kernels_take():
    assert SCHEMES == {"trt": INT8_SYMMETRIC, "cpu-x86": UINT8, "cpu-arm": INT8}
    relu = {target: affine(0.0, 2.55, scheme) for target, scheme in SCHEMES.items()}
    assert {target: how.zero_point for target, how in relu.items()} == {"trt": 0, "cpu-x86": 0, "cpu-arm": -128}
    assert relu["trt"].scale == np.float32(2.55 / 127)
    assert relu["cpu-x86"].scale == relu["cpu-arm"].scale == np.float32(0.01)


def test_halves_are_rounded_to_even_and_what_lies_outside_saturates():
    how = affine(-127.0, 127.0, INT8_SYMMETRIC)
    values = np.array([0.5, 1.5, -0.5, -2.5, 500, -500, np.inf, -np.inf, np.nan], np.float32)
    assert quantize(values, how).tolist() == [0, 2, 0, -2, 127, -128, 127, -128, 0]
    assert quantize(values, affine(0.0, 255.0, UINT8)).tolist() == [0, 2, 0, 0, 255, 0, 255, 0, 0]


@pytest.mark.parametrize("scheme", [INT8_SYMMETRIC, UINT8, INT8])
@pytest.mark.parametrize("largest", [0.0, 1e-45, 1e-38])
def test_a_range_of_nothing_but_zero_has_scale_one(scheme, largest):
    how = affine(0.0, largest, scheme)
    assert how.scale == 1.0
    assert fake_quantize(np.zeros(3, np.float32), how).tolist() == [0, 0, 0]


@pytest.mark.parametrize(("low", "high"), [(0.0, np.nan), (-np.inf, 1.0), (0.0, np.inf), (2.0, 1.0)])
def test_a_range_that_is_none_is_refused(low, high):
    with pytest.raises(InputError, match="expected finite ends, low first"):
        affine(low, high, UINT8)


def test_a_range_above_zero_is_widened_to_hold_it():
    assert affine(1.0, 2.55, UINT8) == affine(0.0, 2.55, UINT8)


def test_weights_take_the_scale_of_their_own_channel():
    weights = np.array([[1.0, -2.54], [0.1, 0.254]], np.float32)
    scales = weight_scales(weights, 0)
    np.testing.assert_allclose(scales, [0.02, 0.002], rtol=1e-6)
    assert quantize_weights(weights, scales, 0).tolist() == [[50, -127], [50, 127]]
    np.testing.assert_allclose(weight_scales(weights, 1), [1 / 127, 0.02], rtol=1e-6)


def test_a_channel_of_zeros_stays_zero_with_a_scale_like_its_neighbours():
    weights = np.array([[0.0, 0.0], [1.27, 0.5]], np.float32)
    assert weight_scales(weights, 0).tolist() == pytest.approx([0.01, 0.01])
    assert fake_quantize_weights(weights, 0)[0].tolist() == [0, 0]
    assert weight_scales(np.zeros((3, 2), np.float32), 0).tolist() == [1, 1, 1]
    assert float(symmetric_scales(0.0)) == 1.0


def test_weights_that_are_not_finite_are_refused():
    with pytest.raises(InputError, match="NaN or infinity"):
        weight_scales(np.array([[1.0, np.nan]], np.float32), 0)


def test_a_bias_becomes_the_nearest_multiple_of_its_step_and_saturates():
    bias = np.array([0.26, -0.25, 1e30], np.float32)
    assert quantize_bias(bias, np.array([0.1, 0.1, 1e-9], np.float32)).tolist() == [3, -2, 2**31 - 1]


def test_output_channels_lie_where_the_operator_has_them():
    assert weight_axis("Conv") == 0
    assert weight_axis("ConvTranspose") == 1
    assert weight_axis("Gemm", is_transposed=True) == 0
    assert weight_axis("Gemm") == 1
    assert weight_axis("MatMul") == -1
    assert along(np.ones(3, np.float32), 4, 1).shape == (1, 3, 1, 1)
