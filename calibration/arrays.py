"""Files of named arrays (.npz), read and written without pickles."""

import io
import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import InputError

_DAMAGE = (
    ValueError,
    OSError,
    EOFError,
    AttributeError,
    TypeError,
    RuntimeError,  # a flipped bit says encrypted, or compressed as nobody does
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)
"""What NumPy and zipfile raise, by where the damage is."""


def read_arrays(path: Path, remedy: str) -> dict[str, NDArray[Any]]:
    """Return all arrays of a file.

    Args:
        path: an .npz file.
        remedy: what to do where it cannot be read.
    Raises:
        InputError: absent, damaged, or it holds Python objects.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file: {remedy}")
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except _DAMAGE as error:
        raise InputError(f"{path}: not a sound .npz file of plain arrays ({error}): {remedy}") from error


def pack_arrays(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Return the bytes of an .npz file, the same for the same arrays."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()
