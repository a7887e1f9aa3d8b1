"""Eight-bit arithmetic in NumPy: from a range to scale and zero point, and from numbers to integers and back.

The emitters, their NumPy reference and training with fake quantization all take it from here, so that they round alike:
as ONNX's QuantizeLinear does, half to even, and saturate at the ends.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.errors import InputError

FloatArray = NDArray[np.float32]
Integers = NDArray[np.integer]

INT8_MIN = -128
INT8_MAX = 127
LEAST_CHANNELS = 4
"""Convolutions over fewer stay float: an integer instruction of a CPU adds up so many products at once (VNNI, SDOT),
and what a sensor delivers in two or three channels suffers most from rounding."""

_TINY = float(np.finfo(np.float32).tiny)  # below it a float32 scale loses digits, and x / scale overflows


@dataclass(frozen=True, kw_only=True, slots=True)
class Scheme:
    """The integers that activations become."""

    dtype: str
    """int8 or uint8."""
    is_symmetric: bool
    """Zero is integer 0 and the scale is that of the larger end; otherwise the range fills all integers."""

    @property
    def lowest(self) -> int:
        """Smallest integer."""
        return int(np.iinfo(self.dtype).min)

    @property
    def highest(self) -> int:
        """Largest integer."""
        return int(np.iinfo(self.dtype).max)


INT8_SYMMETRIC = Scheme(dtype="int8", is_symmetric=True)
UINT8 = Scheme(dtype="uint8", is_symmetric=False)
INT8 = Scheme(dtype="int8", is_symmetric=False)
SCHEMES = {"trt": INT8_SYMMETRIC, "cpu-x86": UINT8, "cpu-arm": INT8}
"""By target: TensorRT takes nothing but zero point 0, x86 multiplies unsigned by signed, Arm signed by signed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Affine:
    """How one tensor's numbers map to integers: real = scale * (integer - zero_point)."""

    scale: float
    """One step, exactly a float32."""
    zero_point: int
    scheme: Scheme


def affine(low: float, high: float, scheme: Scheme) -> Affine:
    """Return scale and zero point of a range, widened so that it holds 0: padding and ReLU need it exact.

    A range of nothing but 0 gets scale 1: zeros stay zeros.

    Raises:
        InputError: an end is not finite, or low is above high.
    """
    if not (math.isfinite(low) and math.isfinite(high) and low <= high):
        raise InputError(f"range {low} to {high}: expected finite ends, low first: calibrate on finite examples")
    low, high = min(low, 0.0), max(high, 0.0)
    if scheme.is_symmetric:
        return Affine(scale=float(symmetric_scales(max(-low, high))), zero_point=0, scheme=scheme)
    step = np.float32((high - low) / (scheme.highest - scheme.lowest))
    scale = float(step) if step >= _TINY else 1.0
    zero_point = min(max(round(scheme.lowest - low / scale), scheme.lowest), scheme.highest)
    return Affine(scale=scale, zero_point=zero_point, scheme=scheme)


def symmetric_scales(largest: ArrayLike) -> FloatArray:
    """Return the scales that make the largest magnitudes 127; of any shape, finite.

    What is never anything but 0 takes the largest scale among the others, 1 where there is none: it stays zero, and an
    integer bias, whose step follows from it, is no coarser than its neighbours'.
    """
    scales = (np.asarray(largest, np.float64) / INT8_MAX).astype(np.float32)
    is_used = scales >= _TINY
    stand_in = np.max(scales, initial=0.0, where=is_used) if is_used.any() else 1.0
    return np.where(is_used, scales, np.float32(stand_in)).astype(np.float32)


def quantize(values: FloatArray, how: Affine) -> Integers:
    """Return the integers of numbers of any shape; infinities saturate, NaN becomes the zero point."""
    return _to_integers(values, np.float32(how.scale), how.zero_point, how.scheme.dtype)


def dequantize(integers: Integers, how: Affine) -> FloatArray:
    """Return the numbers that integers stand for."""
    steps: FloatArray = (integers.astype(np.int32) - how.zero_point).astype(np.float32)
    steps *= np.float32(how.scale)
    return steps


def fake_quantize(values: FloatArray, how: Affine) -> FloatArray:
    """Return numbers as they come back from integers."""
    return dequantize(quantize(values, how), how)


def weight_axis(operator: str, is_transposed: bool = False) -> int:
    """Return the axis of a weight that counts output channels.

    Args:
        operator: Conv, ConvTranspose, Gemm or MatMul.
        is_transposed: of a Gemm, whether its weight is (outputs, inputs), transB = 1.
    """
    if operator in ("MatMul", "ConvTranspose"):
        return -1 if operator == "MatMul" else 1
    return 0 if operator == "Conv" or is_transposed else 1


def weight_scales(weights: FloatArray, axis: int) -> FloatArray:
    """Return (channels,) scales, the largest magnitude of each channel along `axis` becoming 127.

    Raises:
        InputError: a weight is not finite.
    """
    others = tuple(n for n in range(weights.ndim) if n != axis % weights.ndim)
    peaks = np.abs(weights.astype(np.float64)).max(axis=others, initial=0.0)
    if not np.isfinite(peaks).all():
        raise InputError(f"weights {weights.shape} hold NaN or infinity: train again, or export another checkpoint")
    return symmetric_scales(peaks)


def quantize_weights(weights: FloatArray, scales: FloatArray, axis: int) -> NDArray[np.int8]:
    """Return weights as int8, each channel along `axis` by its own scale, zero point 0."""
    return _to_integers(weights, along(scales, weights.ndim, axis), 0, "int8").astype(np.int8, copy=False)


def fake_quantize_weights(weights: FloatArray, axis: int) -> FloatArray:
    """Return weights as they come back from int8."""
    scales = weight_scales(weights, axis)
    return quantize_weights(weights, scales, axis).astype(np.float32) * along(scales, weights.ndim, axis)


def quantize_bias(bias: FloatArray, scales: FloatArray) -> NDArray[np.int32]:
    """Return (channels,) biases as int32 in steps of `scales`: that of the activation times that of the weights."""
    steps = np.rint(bias.astype(np.float64) / scales.astype(np.float64))
    return np.clip(steps, -(2**31), 2**31 - 1).astype(np.int32)


def along(scales: FloatArray, dimensions: int, axis: int) -> FloatArray:
    """Return (channels,) scales shaped to multiply an array of so many dimensions along `axis`."""
    shape = [1] * dimensions
    shape[axis] = -1
    return scales.reshape(shape)


def _to_integers(values: FloatArray, scale: FloatArray | np.float32, zero_point: int, dtype: str) -> Integers:
    limits = np.iinfo(dtype)
    with np.errstate(over="ignore"):
        steps = np.rint(values.astype(np.float32, copy=False) / scale)
    steps = np.nan_to_num(steps, nan=0.0, posinf=1e9, neginf=-1e9)
    integers: Integers = np.clip(steps + np.float32(zero_point), limits.min, limits.max).astype(dtype)
    return integers
