"""Lets faults befall a flight, the same in exact replay, live replay, live flights and tests.

An injector takes messages one at a time, in the order of arrival, and knows neither socket nor clock.
"""

import collections
import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Protocol

from edge.faults.changes import Change, change_of
from edge.faults.fault import CLOCK_JUMP, DELAYED, LINK_LOSS, STREAM_KINDS, Fault
from edge.recording.reader import Event
from edge.transport.messages import Kind


@dataclass(frozen=True, kw_only=True, slots=True)
class FaultPlan:
    """All faults of a flight, and the seed of what they leave to chance."""

    faults: tuple[Fault, ...] = ()
    seed: int = 0

    def befall(self, events: Iterator[Event], begin_ns: int) -> Iterator[Event]:
        """Return what becomes of a flight's events, as `inject`."""
        return inject(events, self.faults, self.seed, begin_ns)


NO_FAULTS = FaultPlan()
DELAY_S = (0.1, 0.8)
_NS_PER_S = 1_000_000_000


def inject(events: Iterator[Event], faults: Sequence[Fault], seed: int, begin_ns: int) -> Iterator[Event]:
    """Return the events of a flight as they come when faults befall it: the same for the same faults and seed.

    Args:
        events: ordered by `log_ns`.
        faults: that befall it; see `check_faults`.
        seed: of everything that is left to chance.
        begin_ns: when the flight begins, in the time of the events.
    Returns:
        events ordered by `log_ns`, the time of arrival.
    """
    injector = Injector(faults, seed, begin_ns)
    for event in events:
        yield from injector.take(event)
    yield from injector.rest()


class Injector:
    """Lets faults befall a flight's events, which it is given one by one.

    Each fault befalls what those before it have left. Faults of no message, such as `process:kill`, are
    left to others.
    """

    def __init__(self, faults: Sequence[Fault], seed: int, begin_ns: int) -> None:
        """Take what `inject` takes."""
        self._steps: list[_Step] = []
        for n, fault in enumerate(faults):
            chance = Random(f"{seed} {n} {fault.name}")
            if fault.kind == DELAYED:
                self._steps.append(_Delayed(fault, chance, begin_ns))
            elif fault.kind in STREAM_KINDS or fault.name == CLOCK_JUMP:
                self._steps.append(_Changed(fault, chance, begin_ns))
            elif fault.name == LINK_LOSS:
                self._steps.append(_WithoutPoses(fault, begin_ns))

    def take(self, event: Event) -> list[Event]:
        """Return what comes now: the event, what became of it, what was held until now, or nothing."""
        return self._passed([event], self._steps)

    def rest(self) -> list[Event]:
        """Return what is held at the end of the flight."""
        events: list[Event] = []
        for step in self._steps:
            events = self._passed(events, [step]) + step.rest()
        return events

    def _passed(self, events: list[Event], steps: Sequence["_Step"]) -> list[Event]:
        for step in steps:
            events = [left for event in events for left in step.take(event)]
        return events


class _Step(Protocol):
    """One fault at work."""

    def take(self, event: Event) -> list[Event]:
        """Return what it leaves of an event, after what it had held until then."""
        ...

    def rest(self) -> list[Event]:
        """Return what it still holds."""
        ...


class _Changed:
    def __init__(self, fault: Fault, chance: Random, begin_ns: int) -> None:
        self._fault = fault
        self._begin_ns = begin_ns
        self._change: Change = change_of(fault, chance)

    def take(self, event: Event) -> list[Event]:
        if not _befalls(self._fault, event, self._begin_ns) or event.header is None:
            return [event]
        changed = self._change(event, event.header)
        return [] if changed is None else [changed]

    def rest(self) -> list[Event]:
        return []


class _Delayed:
    """Holds each message for a while, in order; what is held when the fault ends comes at that moment."""

    def __init__(self, fault: Fault, chance: Random, begin_ns: int) -> None:
        self._fault = fault
        self._begin_ns = begin_ns
        self._delay_ns = round(chance.uniform(*DELAY_S) * _NS_PER_S)
        self._held: collections.deque[Event] = collections.deque()

    def take(self, event: Event) -> list[Event]:
        left = []
        while self._held and self._held[0].log_ns <= event.log_ns:
            left.append(self._held.popleft())
        if not _befalls(self._fault, event, self._begin_ns):
            return [*left, event]
        arrival_ns, end_ns = event.log_ns + self._delay_ns, self._fault.window_ns(self._begin_ns)[1]
        arrival_ns = arrival_ns if end_ns is None else min(arrival_ns, end_ns)
        self._held.append(dataclasses.replace(event, log_ns=arrival_ns))
        return left

    def rest(self) -> list[Event]:
        left = list(self._held)
        self._held.clear()
        return left


class _WithoutPoses:
    def __init__(self, fault: Fault, begin_ns: int) -> None:
        self._fault = fault
        self._begin_ns = begin_ns

    def take(self, event: Event) -> list[Event]:
        is_linked = event.kind in (Kind.POSE, Kind.MAVLINK)
        return [] if is_linked and self._fault.is_on(event.log_ns, self._begin_ns) else [event]

    def rest(self) -> list[Event]:
        return []


def _befalls(fault: Fault, event: Event, begin_ns: int) -> bool:
    return event.header is not None and fault.befalls(event.stream) and fault.is_on(event.log_ns, begin_ns)
