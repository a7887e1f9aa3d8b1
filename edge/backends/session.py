"""What the pipeline asks of an engine, whichever makes the computations."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from models.bundle import Precision


class Session(Protocol):
    """One graph with its buffers: write all of `inputs`, call `run`, read `outputs`. Batch is 1; one thread at a time.

    The arrays are float32, or uint8 for images that the graph normalises itself. Ask for `inputs` anew before each
    inference: another engine may have taken over since.
    """

    @property
    def inputs(self) -> Mapping[str, NDArray[Any]]:
        """Buffers by the names of the graph's inputs."""

    @property
    def outputs(self) -> Mapping[str, NDArray[Any]]:
        """Buffers by the names of the graph's outputs, good until the next inference."""

    def run(self) -> bool:
        """Infer from `inputs` into `outputs`, and say whether these are finite; the GIL is released meanwhile."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Engines:
    """The loaded graphs of a bundle."""

    branches: Mapping[str, Session]
    """By modality: input `input`, outputs `feature` and `logits`."""
    fusion: Session
    """Inputs `feature_<name>`, `logits_<name>`, `mask`; outputs `logits`, `weights`, `entropies`."""
    precisions: Mapping[str, Precision]
    """Of each role: the modalities and `fusion`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Plans:
    """Serialized engines for this very machine."""

    by_role: Mapping[str, bytes]
    """For every modality and `fusion`."""
    precisions: Mapping[str, Precision]
    """Of the graph that each was built of."""


def are_finite(arrays: Iterable[NDArray[Any]]) -> bool:
    """Say whether nothing in small arrays is infinite or not a number."""
    return not any(b"\0" in np.isfinite(array).tobytes() for array in arrays)  # a third of the time of all()


PlanSource = Callable[[], Plans]
"""Returns the plans of a bundle; raises DeviceError with the reason where one of them is not to be had."""
