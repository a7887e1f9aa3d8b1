"""The examples that calibration looks at: inputs preprocessed as in flight, with labels where known."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.arrays import read_arrays
from models.errors import InputError
from models.spec import ModelSpec

MIN_EXAMPLES = 32
"""Of each modality: with fewer, the extremes that set a range are chance."""
HELD_BACK = 4
"""Every so many-th example is kept out of the ranges, to judge them by."""
REMEDY = "write it with uav-train examples, or cut it from a recorded flight"


@dataclass(frozen=True, kw_only=True, slots=True)
class Examples:
    """Checked examples of a model's modalities."""

    inputs: Mapping[str, NDArray[np.float32]]
    """By modality: (n, *input_shape)."""
    present: NDArray[np.float32]
    """(n, modalities), 0 to 1: the masks."""
    labels: NDArray[np.int64]
    """(n,), -1 where unknown."""
    note: str
    """Where they come from."""
    sha256: str = ""
    """Of their file: examples that made the ranges must not judge them."""

    @property
    def count(self) -> int:
        """How many examples."""
        return len(self.labels)

    def rows(self, modality: int, is_held_back: bool) -> NDArray[np.int64]:
        """Return the examples in which a modality is there: those to calibrate on, or those held back from it."""
        there = np.flatnonzero(self.present[:, modality] > 0)
        is_kept = np.arange(len(there)) % HELD_BACK == HELD_BACK - 1
        rows: NDArray[np.int64] = there[is_kept == is_held_back]
        return rows


def read_examples(path: Path, spec: ModelSpec) -> Examples:
    """Return the examples of a file, checked against a spec.

    Raises:
        InputError: unreadable, of another spec, too few, of a single class, or with values that cannot be.
    """
    arrays = read_arrays(path, REMEDY)
    names = [f"input_{name}" for name in spec.modality_names]
    missing = sorted({*names, "present", "labels", "classes", "modalities", "note"} - set(arrays))
    if missing:
        raise InputError(f"{path}: {', '.join(missing)} missing: {REMEDY}")
    for what, expected in (("classes", spec.classes), ("modalities", spec.modality_names)):
        found = tuple(str(one) for one in arrays[what].reshape(-1))
        if found != expected:
            raise InputError(f"{path}: {what} {found}: the bundle's are {expected}: take examples of this model's data")
    examples = Examples(
        inputs={name: arrays[f"input_{name}"] for name in spec.modality_names},
        present=arrays["present"],
        labels=arrays["labels"],
        note=str(arrays["note"]),
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
    )
    for name, expected_shape, dtype in (
        *((f"input_{one.name}", one.recipe.input_shape, "float32") for one in spec.modalities),
        ("present", (len(spec.modalities),), "float32"),
        ("labels", (), "int64"),
    ):
        _check_array(f"{path}: {name}", arrays[name], (len(arrays[names[0]]), *expected_shape), dtype)
    _check_content(str(path), examples, spec)
    for n, name in enumerate(spec.modality_names):
        examples.inputs[name][examples.present[:, n] == 0] = 0  # whatever stands there: NaN would outlive a mask of 0
    return examples


def _check_array(where: str, array: NDArray[Any], shape: tuple[int, ...], dtype: str) -> None:
    if array.shape != shape or array.dtype != dtype:
        raise InputError(f"{where} is {array.shape} {array.dtype}: expected {shape} {dtype}: {REMEDY}")


def _check_content(where: str, examples: Examples, spec: ModelSpec) -> None:
    if not ((examples.present >= 0) & (examples.present <= 1)).all():
        raise InputError(f"{where}: present holds values outside 0 to 1: {REMEDY}")
    if not ((examples.labels >= -1) & (examples.labels < len(spec.classes))).all():
        raise InputError(f"{where}: labels outside -1 to {len(spec.classes) - 1}: {REMEDY}")
    for n, name in enumerate(spec.modality_names):
        there = examples.inputs[name][examples.present[:, n] > 0]
        if len(there) < MIN_EXAMPLES:
            raise InputError(
                f"{where}: {name} is present in {len(there)} examples: expected at least {MIN_EXAMPLES}, better some"
                " hundreds, of all that is met in flight: take more"
            )
        bad = np.flatnonzero(~np.isfinite(there.reshape(len(there), -1)).all(axis=1))
        if bad.size:
            raise InputError(f"{where}: input_{name} holds NaN or infinity in {bad.size} examples: {REMEDY}")
        if not there.any():
            raise InputError(f"{where}: input_{name} is zero throughout: preprocess the examples as in flight")
    known = np.unique(examples.labels[examples.labels >= 0])
    if len(known) == 1 and (examples.labels >= 0).all():
        raise InputError(
            f"{where}: all examples are of class {spec.classes[int(known[0])]!r}: ranges would fit that one alone:"
            " take examples of all classes"
        )
