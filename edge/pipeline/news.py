"""When a status is worth telling before its time, and what of the streams' states is logged."""

import logging
from collections.abc import Mapping

from edge.pipeline.scheduler import LIVE
from edge.transport.messages import Load

log = logging.getLogger(__name__)

NEWS_PERIOD_NS = 200_000_000
"""Between statuses, however often states change."""
HELD_NS = 1_000_000_000
"""A reason is news when it has held for so long: damaged messages are refused for another reason each."""
LOG_PERIOD_NS = 1_000_000_000
"""Between two lines of the log on one stream."""


class News:
    """Remembers what was told. Knows no clock, and decides by what it is shown."""

    def __init__(self) -> None:
        self._told: dict[str, str] = {}
        self._load = Load()
        self._due_ns = 0
        self._since: dict[str, tuple[str, int]] = {}
        """By stream its state, and since when it is so."""
        self._logged: dict[str, tuple[str, int]] = {}
        """By stream the state that the log knows, and when it was logged."""

    def is_due(self, states: Mapping[str, str], load: Load, now_ns: int) -> bool:
        """Say whether a status must be published now, whenever the next one is due; call some 50 times a second."""
        for name, state in states.items():
            if self._since.get(name, ("", 0))[0] != state:
                self._since[name] = state, now_ns
        is_news = load != self._load or any(self._is_news(name, states[name], now_ns) for name in states)
        return is_news and now_ns >= self._due_ns

    def note_told(self, states: Mapping[str, str], load: Load, now_ns: int) -> None:
        """Take what was published, and log what of it is new."""
        if load != self._load:
            log.warning("shedding: %s", f"{load.name}: {load.why}" if load.level else "nothing any more")
        self._told, self._load, self._due_ns = dict(states), load, now_ns + NEWS_PERIOD_NS
        for name, state in states.items():
            known, logged_ns = self._logged.setdefault(name, (state, now_ns - LOG_PERIOD_NS))
            if known != state and now_ns - logged_ns >= LOG_PERIOD_NS:
                self._logged[name] = state, now_ns
                log.log(logging.INFO if state == LIVE else logging.WARNING, "stream %s: %s -> %s", name, known, state)

    def _is_news(self, name: str, state: str, now_ns: int) -> bool:
        """Say whether a stream has begun or ceased to be live, or is not live for another reason than was told."""
        told = self._told.get(name)
        if told == state:
            return False
        is_turn = told is None or (told == LIVE) != (state == LIVE)
        return is_turn or now_ns - self._since[name][1] >= HELD_NS
