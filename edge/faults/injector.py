"""Lets faults befall a flight: a pure transformer of its events, the same in exact replay, live replay and tests."""

import collections
import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random

from edge.faults.changes import change_of
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

    Each fault befalls what those before it have left. Faults of no message, such as `process:kill`, are
    left to others.

    Args:
        events: ordered by `log_ns`.
        faults: that befall it; see `check_faults`.
        seed: of everything that is left to chance.
        begin_ns: when the flight begins, in the time of the events.
    Returns:
        events ordered by `log_ns`, the time of arrival.
    """
    for n, fault in enumerate(faults):
        chance = Random(f"{seed} {n} {fault.name}")
        if fault.kind in STREAM_KINDS or fault.name == CLOCK_JUMP:
            events = (_delayed if fault.kind == DELAYED else _changed)(events, fault, chance, begin_ns)
        elif fault.name == LINK_LOSS:
            events = _without_poses(events, fault, begin_ns)
    return events


def _changed(events: Iterator[Event], fault: Fault, chance: Random, begin_ns: int) -> Iterator[Event]:
    change = change_of(fault, chance)
    for event in events:
        if event.header is None or not fault.befalls(event.stream) or not _is_within(event, fault, begin_ns):
            yield event
            continue
        changed = change(event, event.header)
        if changed is not None:
            yield changed


def _without_poses(events: Iterator[Event], fault: Fault, begin_ns: int) -> Iterator[Event]:
    return (event for event in events if event.kind != Kind.POSE or not _is_within(event, fault, begin_ns))


def _is_within(event: Event, fault: Fault, begin_ns: int) -> bool:
    start_ns, end_ns = fault.window_ns(begin_ns)
    return event.log_ns >= start_ns and (end_ns is None or event.log_ns < end_ns)


def _delayed(events: Iterator[Event], fault: Fault, chance: Random, begin_ns: int) -> Iterator[Event]:
    """Hold each message for a while, in order; what is held when the fault ends comes at that moment."""
    delay_ns = round(chance.uniform(*DELAY_S) * _NS_PER_S)
    end_ns = fault.window_ns(begin_ns)[1]
    held: collections.deque[Event] = collections.deque()
    for event in events:
        while held and held[0].log_ns <= event.log_ns:
            yield held.popleft()
        if event.header is None or not fault.befalls(event.stream) or not _is_within(event, fault, begin_ns):
            yield event
            continue
        arrival_ns = event.log_ns + delay_ns
        held.append(dataclasses.replace(event, log_ns=arrival_ns if end_ns is None else min(arrival_ns, end_ns)))
    yield from held
