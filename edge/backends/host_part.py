"""What a frame costs the host beside its calls of the GPU; measured with them where a kind of memory is chosen."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


class HostPart:
    """Writes inputs and reads outputs as in flight, with content that does not matter."""

    def __init__(
        self, inputs: Sequence[NDArray[Any]], outputs: Sequence[NDArray[Any]], is_managed: bool = False
    ) -> None:
        """Make arrays of the host's own for all of them.

        Args:
            inputs: of all graphs, as the GPU shares them.
            outputs: likewise.
            is_managed: whether inputs wait in the host's own memory first: see `TrtSession`.
        """
        written = [np.zeros_like(array) for array in inputs] if is_managed else inputs
        self._writes = [(array, np.zeros_like(array)) for array in written]
        self._moves = list(zip(inputs, written, strict=True)) if is_managed else []
        self._reads = [(np.zeros_like(array), array) for array in outputs]

    def write(self) -> None:
        """Write the inputs of all graphs."""
        _copy(self._writes)
        _copy(self._moves)

    def read(self) -> None:
        """Read the outputs of all graphs."""
        _copy(self._reads)


def _copy(pairs: Iterable[tuple[NDArray[Any], NDArray[Any]]]) -> None:
    """Copy into the first of each pair what the second holds."""
    for target, source in pairs:
        np.copyto(target, source, casting="no")
