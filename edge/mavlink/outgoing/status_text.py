"""STATUSTEXT that nobody wants to switch off: only changes, at most one a second, the most severe first."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import NamedTuple

from pymavlink.dialects.v20 import common

PERIOD_NS = 1_000_000_000


class Said(NamedTuple):
    """What is to be said now."""

    severity: int
    text: str
    subject: str


@dataclass(frozen=True, kw_only=True, slots=True)
class _News:
    value: str
    severity: int
    text: str
    since_ns: int
    ready_ns: int


class StatusTexts:
    """Remembers what was said of each subject, and what is to be said next."""

    def __init__(self) -> None:
        self._said: dict[str, str] = {}
        self._news: dict[str, _News] = {}
        self._last: dict[str, _News] = {}
        """What was said of each subject."""
        self._again: dict[str, _News] = {}
        self._next_ns = 0

    def assume(self, subject: str, value: str) -> None:
        """Take a value of a subject that nothing was said of for known."""
        self._said.setdefault(subject, value)

    def note(self, subject: str, value: str, severity: int, text: str, *, now_ns: int, hold_ns: int = 0) -> None:
        """Note what a subject is now; said only if it differs from what was last said, and stays so for `hold_ns`.

        Args:
            subject: `class`, or the name of a modality, for example.
            value: what it is now.
            severity: MAV_SEVERITY, 0 the worst.
            text: says it to people.
            now_ns: the time.
            hold_ns: time that must pass until it is said.
        """
        if self._said.get(subject) == value:
            self._news.pop(subject, None)
            return
        waiting = self._news.get(subject)
        since_ns = waiting.since_ns if waiting is not None and waiting.value == value else now_ns
        self._news[subject] = _News(
            value=value, severity=severity, text=text, since_ns=since_ns, ready_ns=since_ns + hold_ns
        )

    def take(self, now_ns: int) -> Said | None:
        """Return what is to be said now, if anything."""
        if now_ns < self._next_ns:
            return None
        ready = {subject: news for subject, news in self._news.items() if news.ready_ns <= now_ns}
        if not ready:
            return self._repeated(now_ns)
        subject = min(ready, key=lambda name: (ready[name].severity, ready[name].since_ns))
        news = self._last[subject] = self._news.pop(subject)
        self._again.pop(subject, None)
        self._said[subject] = news.value
        self._next_ns = now_ns + PERIOD_NS
        return Said(news.severity, news.text, subject)

    def forget(self, subject: str) -> None:
        """Say nothing of what waits of a subject."""
        self._news.pop(subject, None)
        self._again.pop(subject, None)

    def repeat(self, subjects: Collection[str]) -> None:
        """Say again what is wrong with these, and other news of them, once nothing new is to be said.

        What is as it should be (NOTICE) is not repeated.
        """
        self._again = {
            subject: news
            for subject, news in self._last.items()
            if subject in subjects and news.severity != common.MAV_SEVERITY_NOTICE
        }

    def _repeated(self, now_ns: int) -> Said | None:
        if not self._again:
            return None
        subject = min(self._again, key=lambda name: self._again[name].severity)
        news = self._again.pop(subject)
        self._next_ns = now_ns + PERIOD_NS
        return Said(news.severity, news.text, subject)
