"""What others ask of us in vain: counted, and explained once to whoever reads the log."""

import logging
from collections import Counter

log = logging.getLogger(__name__)

MAX_TOLD = 64
"""Numbers and names come from others: beyond, what is new is counted alone."""


class Complaints:
    """Of all links together."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        """By kind."""
        self._told: set[tuple[str, object]] = set()

    def note(self, kind: str, about: object, text: str) -> None:
        """Count something that was not done, and explain it the first time.

        Args:
            kind: one of a few, such as `denied`.
            about: tells things of a kind apart; each is explained.
            text: what came, what was expected, and what to do.
        """
        self.counts[kind] += 1
        if (kind, about) not in self._told and len(self._told) < MAX_TOLD:
            self._told.add((kind, about))
            log.warning("%s; the rest is counted", text)

    def tell_all(self) -> None:
        """Say at the end how many there were."""
        if self.counts:
            log.info("asked of us in vain: %s", dict(self.counts))
