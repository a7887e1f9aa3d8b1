"""Blocks of memory that are written again once nobody looks at them any more, so that a stream allocates nothing."""

import sys

import numpy as np
from numpy.typing import NDArray


class BlockPool:
    """Hands out blocks of one size, (bytes,) uint8; a block is free again when no view on it is left.

    Whoever takes a block need not give it back: CPython counts the references, zmq's own among them.
    """

    def __init__(self, block_bytes: int) -> None:
        self._blocks: list[NDArray[np.uint8]] = [np.empty(block_bytes, np.uint8)]
        self._idle = self._references(0)

    def __len__(self) -> int:
        """Return how many blocks there are, free or in use."""
        return len(self._blocks)

    def take(self) -> NDArray[np.uint8]:
        """Return a block that nobody uses, a new one where there is none; its content is whatever was there."""
        for n in range(len(self._blocks)):
            if self._references(n) == self._idle:
                return self._blocks[n]
        block = np.empty_like(self._blocks[0])
        self._blocks.append(block)
        return block

    def _references(self, n: int) -> int:
        return sys.getrefcount(self._blocks[n])
