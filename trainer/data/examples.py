"""What a data set offers to training and evaluation, and how its examples become batches of tensors."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from models.errors import InputError
from models.preprocess import Scratch, preprocess
from models.spec import ModelSpec

Inputs = dict[str, NDArray[np.float32]]

_LOOKAHEAD = 4
_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Example:
    """What the sensors deliver at one moment, and the truth."""

    label: int
    """Index of its class; -1 where nobody knows, which no training and no evaluation takes."""
    sensors: Mapping[str, NDArray[Any] | None]
    """By modality, before preprocessing: I/Q (samples, 2), image (height, width, 3) BGR uint8, vector (values,). None
    where the moment has none, which only validation examples may."""
    quality: Mapping[str, float] = field(default_factory=dict)
    """By modality, how good its input is where the data set knows it: higher is better, in a unit of its own."""
    source: str = ""
    """Files and places in them, where the data set knows it: for messages."""


class DataSet(Protocol):
    """Labelled examples of all modalities; training ones without end, validation ones the same every time."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Labels in index order."""

    @property
    def licence(self) -> str:
        """Terms that these data leave for weights trained on them."""

    def training_example(self, rng: np.random.Generator, progress: float) -> Example:
        """Draw an example; `progress` is the part of training that is done, for a curriculum."""

    def validation_examples(self) -> Iterator[Example]:
        """Yield the examples that training never sees."""


@runtime_checkable
class HasOutliers(Protocol):
    """A data set with inputs of its own that a branch must answer with doubt."""

    def outlier(self, modality: str, rng: np.random.Generator) -> NDArray[Any] | None:
        """Draw what a sensor might deliver that is of no class; None for what any data set has, a dead sensor."""


@runtime_checkable
class HasUnknowns(Protocol):
    """A data set that also knows what no class of it is."""

    def unknown_examples(self) -> Iterator[tuple[str, Example]]:
        """Yield a name of what is unknown, and an example of it: its label is the class that all the rest is of."""


@runtime_checkable
class HasQuietWindows(Protocol):
    """A data set whose receivers can be heard while nobody sends."""

    def quiet_windows(self, snr_db: float) -> Iterator[Example]:
        """Yield examples of radio alone, without a burst, under the noise that makes the recording's bursts SNR."""


def prepare(examples: Sequence[Example], spec: ModelSpec) -> tuple[Inputs, NDArray[np.int64]]:
    """Return preprocessed inputs per modality, (examples, *input_shape), and labels; zeros stand for what is absent.

    Raises:
        InputError: a sensor is missing, of the wrong shape, or holds values that are not finite.
    """
    inputs: Inputs = {}
    for modality in spec.modalities:
        scratch = Scratch()
        stack = np.empty((len(examples), *modality.recipe.input_shape), np.float32)
        for n, example in enumerate(examples):
            if modality.name not in example.sensors:
                raise InputError(
                    f"{_called(example, spec)}: no {modality.name}, the data set delivers"
                    f" {', '.join(example.sensors)}: name the modalities as it does"
                )
            sensor = example.sensors[modality.name]
            if sensor is None:
                stack[n] = 0.0
                continue
            preprocess(sensor, modality.recipe, stack[n], scratch)
            if not np.isfinite(stack[n]).all():
                raise InputError(
                    f"{_called(example, spec)}{example.source and f' ({example.source})'}: {modality.name} holds NaN or"
                    " infinity: repair or remove it from the data set"
                )
        inputs[modality.name] = stack
    return inputs, np.array([example.label for example in examples], np.int64)


def _called(example: Example, spec: ModelSpec) -> str:
    return f"example of {spec.classes[example.label]}" if example.label >= 0 else "example of an unknown class"


def presence(examples: Sequence[Example], spec: ModelSpec) -> NDArray[np.float32]:
    """Return the mask of what is there, (examples, modalities)."""
    there = [[example.sensors[name] is not None for name in spec.modality_names] for example in examples]
    return np.array(there, np.float32)


def prefetched(make: Callable[[int], _T], count: int) -> Iterator[_T]:
    """Yield make(0) to make(count - 1), made by one thread a few ahead of their use."""
    with ThreadPoolExecutor(1) as pool:
        pending = deque(pool.submit(make, n) for n in range(min(_LOOKAHEAD, count)))
        try:
            for n in range(count):
                item = pending.popleft().result()
                if n + _LOOKAHEAD < count:
                    pending.append(pool.submit(make, n + _LOOKAHEAD))
                yield item
        finally:
            for waiting in pending:
                waiting.cancel()
