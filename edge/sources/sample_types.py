"""The types that radio samples are stored in, and how each goes over the wire, which knows four of them."""

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

_NAME = re.compile(r"([cr])(?:([ui])(8)|([uif])(16|32|64)_(le|be))")
_TYPES = frozenset({"u8", "i8", "u16", "i16", "u32", "i32", "f32", "f64"})
EXPECTED = "cu8, ci8, cu16, ci16, cu32, ci32, cf32 or cf64, those of more than 8 bits with _le or _be"
_FULL_SCALE = {4: float(1 << 31)}


def complex_dtype(name: str) -> np.dtype[Any] | None:
    """Return the type of I and of Q that a SigMF datatype of complex samples says, None for any other text."""
    found = _NAME.fullmatch(name)
    if found is None or found[1] != "c":
        return None
    letter, bits = found[2] or found[4], int(found[3] or found[5])
    if f"{letter}{bits}" not in _TYPES:
        return None
    return np.dtype(f"{'>' if found[6] == 'be' else '<'}{letter}{bits // 8}")


def is_real(name: str) -> bool:
    """Say whether a SigMF datatype is one of real samples."""
    found = _NAME.fullmatch(name)
    return found is not None and found[1] == "r"


def as_wire(samples: NDArray[Any]) -> NDArray[Any]:
    """Return samples contiguous, in this machine's byte order, in a type that the wire knows.

    8-bit types, int16 and float32 keep their values. uint16 becomes int16 about its middle, exactly; 32-bit integers
    become float32 within -1 to 1; float64 becomes float32.
    """
    kind, size = samples.dtype.kind, samples.dtype.itemsize
    if size == 1:
        return np.ascontiguousarray(samples)
    if kind == "i" and size == 2:
        return np.ascontiguousarray(samples, dtype=np.int16)
    if kind == "u" and size == 2:
        return (samples.astype(np.int32) - (1 << 15)).astype(np.int16)
    if kind in "ui":
        middle = _FULL_SCALE[size] if kind == "u" else 0.0
        scaled: NDArray[Any] = (samples.astype(np.float64) - middle) / _FULL_SCALE[size]
        return scaled.astype(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):  # what float32 cannot hold becomes infinite: the gate says so
        single: NDArray[Any] = np.ascontiguousarray(samples, dtype=np.float32)
        return single
