"""A sample of examples, preprocessed as in flight, in one file: what calibration takes its ranges from.

Training and calibration meet in this file, and in nothing else.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import InputError
from models.spec import ImageRecipe, ModelSpec, Recipe, VectorRecipe
from trainer.data.examples import Example, Inputs, prepare, presence

DRAWS_PER_EXAMPLE = 50


@dataclass(frozen=True, kw_only=True, slots=True)
class Wish:
    """What a sample is to be like."""

    count: int
    """Examples in all: as many of each label, as far as there are."""
    gains_db: tuple[float, ...] = (0.0,)
    """Of radio and camera against the recordings; the examples of a label take them in turns."""
    seed: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """Preprocessed examples, in an order by chance."""

    inputs: Inputs
    """By modality, (n, *input_shape)."""
    present: NDArray[np.float32]
    """(n, modalities): 1 where an example has the modality."""
    labels: NDArray[np.int64]
    """(n,), -1 where nobody knows."""


class _Places:
    """Who stands where: row n is for label n modulo their number, and chance decides where there are more than rows."""

    def __init__(self, labels: Sequence[int], count: int) -> None:
        self._rows = {label: range(n, count, len(labels)) for n, label in enumerate(labels)}
        self._seen: Counter[int] = Counter()

    @property
    def taken(self) -> list[int]:
        return sorted(row for label, rows in self._rows.items() for row in rows[: self._seen[label]])

    def place(self, label: int, rng: np.random.Generator) -> int | None:
        """Return the row of one more example, in place of another where all are taken, or None where it has none."""
        rows, seen = self._rows[label], self._seen[label]
        self._seen[label] += 1
        place = seen if seen < len(rows) else int(rng.integers(seen + 1))
        return rows[place] if place < len(rows) else None


def first_of_each(draws: Iterable[Example], labels: Sequence[int], count: int) -> Iterator[Example]:
    """Yield the first examples of each label, up to its share of `count`.

    Ends when they are together, or after so many draws that a label which lacks must be one that never comes.
    """
    missing = Counter({label: len(range(n, count, len(labels))) for n, label in enumerate(labels)})
    for example in islice(draws, DRAWS_PER_EXAMPLE * count):
        if missing[example.label] > 0:
            missing[example.label] -= 1
            yield example
        if not any(missing.values()):
            return


def draw_sample(
    examples: Iterable[Example],
    labels: Sequence[int],
    spec: ModelSpec,
    wish: Wish,
    on_done: Callable[[int], None] = lambda done: None,
) -> Sample:
    """Choose examples by chance, as many of each label, and preprocess them.

    Args:
        examples: of these labels; all of them are looked at, `first_of_each` ends where there is no end.
        labels: that a place is kept for.
        spec: of the model that the sample is for.
        wish: how many, and how loud.
        on_done: told how many examples have been looked at.
    Raises:
        InputError: there are none, or one does not fit the model.
    """
    rng = np.random.default_rng([wish.seed, 1])
    places = _Places(labels, wish.count)
    inputs = {one.name: np.zeros((wish.count, *one.recipe.input_shape), np.float32) for one in spec.modalities}
    present = np.zeros((wish.count, len(spec.modalities)), np.float32)
    told = np.zeros(wish.count, np.int64)
    for done, example in enumerate(examples, 1):
        row = places.place(example.label, rng)
        if row is not None:
            gain_db = wish.gains_db[row // len(labels) % len(wish.gains_db)]
            one, _ = prepare([louder(example, spec, gain_db)], spec)
            for name, value in one.items():
                inputs[name][row] = value[0]
            present[row], told[row] = presence([example], spec)[0], example.label
        on_done(done)
    order = rng.permutation(places.taken)
    if not len(order):
        raise InputError("no examples to sample: name data that have some")
    return Sample(
        inputs={name: value[order] for name, value in inputs.items()}, present=present[order], labels=told[order]
    )


def louder(example: Example, spec: ModelSpec, gain_db: float) -> Example:
    """Return an example as a receiver and a camera of another gain would have delivered it: clipped and rounded."""
    if not gain_db:
        return example
    recipes = {one.name: one.recipe for one in spec.modalities}
    sensors = {
        name: sensed if sensed is None or name not in recipes else _scaled(sensed, recipes[name], 10 ** (gain_db / 20))
        for name, sensed in example.sensors.items()
    }
    return replace(example, sensors=sensors)


def _scaled(sensed: NDArray[Any], recipe: Recipe, factor: float) -> NDArray[Any]:
    """Return what a sensor delivers when its input is `factor` times as strong; a row of numbers has no gain."""
    if isinstance(recipe, VectorRecipe):
        return sensed
    if not np.issubdtype(sensed.dtype, np.integer):
        return (sensed * factor).astype(sensed.dtype)
    limits = np.iinfo(sensed.dtype)
    zero = 0.0 if isinstance(recipe, ImageRecipe) or limits.min < 0 else (limits.max + 1) / 2 - 0.5
    steps = np.rint((sensed.astype(np.float64) - zero) * factor + zero)
    return np.clip(steps, limits.min, limits.max).astype(sensed.dtype)


def write_sample(path: Path, sample: Sample, spec: ModelSpec, note: str) -> None:
    """Write a sample as npz without pickles; it appears whole or not at all.

    Args:
        path: the file.
        sample: what goes in.
        spec: of the model that it is for.
        note: where the examples come from, for people.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as stream:
            np.savez(
                stream,
                allow_pickle=False,
                present=sample.present,
                labels=sample.labels,
                classes=np.array(spec.classes),
                modalities=np.array(spec.modality_names),
                note=np.array(note),
                **{f"input_{name}": value for name, value in sample.inputs.items()},
            )
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
