"""Ways to make another example of an example, in flight just as likely."""

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

_Sample = TypeVar("_Sample", bound=np.generic)


def turned_in_time(window: NDArray[_Sample], rng: np.random.Generator) -> NDArray[_Sample]:
    """Return a window that begins at another of its samples: when a burst comes says nothing."""
    return np.roll(window, int(rng.integers(len(window))), axis=0)


def aerial_part(frame: NDArray[np.uint8], least_share: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return a part of a frame in one of eight orientations: seen from above, the ground has no up."""
    return _mirrored_at_times(np.rot90(_part(frame, least_share, rng), int(rng.integers(4))), rng)


def upright_part(frame: NDArray[np.uint8], least_share: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return a part of a frame, mirrored left to right at times: the sky has an up, but no right."""
    return _mirrored_at_times(_part(frame, least_share, rng), rng)


def _part(frame: NDArray[np.uint8], least_share: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return a random part of the frame's own proportions, of at least a share of its height."""
    full_height, full_width = frame.shape[:2]
    height = int(rng.integers(round(least_share * full_height), full_height + 1))
    width = full_width * height // full_height
    y, x = (int(rng.integers(left + 1)) for left in (full_height - height, full_width - width))
    return frame[y : y + height, x : x + width]


def _mirrored_at_times(part: NDArray[Any], rng: np.random.Generator) -> NDArray[np.uint8]:
    return np.ascontiguousarray(part[:, ::-1] if rng.random() < 0.5 else part)
