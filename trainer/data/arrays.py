"""Arrays of a data set's file."""

import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import InputError


def load_arrays(
    path: Path, names: Iterable[str], data_set: str, optional: Iterable[str] = ()
) -> dict[str, NDArray[Any]]:
    """Return the arrays of these names in an npz file, whose folder carries the data set's name on disk, and those
    optional ones that are there.

    Raises:
        InputError: the file is missing or damaged, or lacks one of them.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            there = (name for name in optional if name in stored.files)
            return {name: stored[name] for name in (*names, *there)}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(
            f"{path}: not readable as {data_set} ({error}): name the data folder that holds {path.parent.name},"
            " or copy it again"
        ) from error
