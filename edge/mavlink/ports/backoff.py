"""When to try a port again. Pure: times come in as arguments."""

import random

BACKOFF_NS = (500_000_000, 1_000_000_000, 1_600_000_000)
"""With its jitter the longest is 1.92 s: whatever comes back is found within two seconds."""
JITTER = 0.2
"""So many who lost the same server do not come back in step."""


class Backoff:
    """When to try a port again: soon, then with longer pauses.

    Args:
        rng: of the jitter; by default another one for each who waits.
    """

    def __init__(self, rng: random.Random | None = None) -> None:
        self._random = rng or random.Random()
        self._attempts = 0
        self._due_ns = 0

    def is_due(self, now_ns: int) -> bool:
        """Say whether to try now."""
        return now_ns >= self._due_ns

    def begin(self, now_ns: int) -> None:
        """Note that an attempt is made, or has failed: the next one is due after a pause."""
        pause_ns = BACKOFF_NS[min(self._attempts, len(BACKOFF_NS) - 1)]
        self._attempts += 1
        self._due_ns = now_ns + round(pause_ns * (1 + JITTER * self._random.uniform(-1, 1)))

    def succeed(self) -> None:
        """Begin anew: the port is there."""
        self._attempts = 0
        self._due_ns = 0
