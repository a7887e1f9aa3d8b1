"""What each fault does to the messages that it befalls. Everything by chance is drawn from the generator handed in."""

import dataclasses
from collections.abc import Callable
from random import Random

from edge.faults.fault import CLOCK_JUMP, GARBAGE, INTERMITTENT, OFF, SLOW, STUCK, WRONG, Fault
from edge.recording.reader import Event
from edge.transport.messages import Kind
from edge.transport.wire import FLAG_CRC, Header

Change = Callable[[Event, Header], Event | None]
"""Returns what becomes of a sensor's message, or None where nothing does; called in the order of arrival."""

SMALLEST_JUMP_S, LARGEST_JUMP_S = 0.4, 10.0
"""More than the pipeline lets a capture time lie in the future, and older than it lets an answer be."""
SLOWEST = (4, 12)
PHASE_S = (0.05, 0.6)
_NS_PER_S = 1_000_000_000
_BLACK_PX = (48, 64, 3)
_UINT8, _FLOAT32 = 1, 4
_LARGEST = {1: b"\xff", 2: b"\x7f", 3: b"\xff\x7f"}
"""Of a type's samples, by its code on the wire."""


def change_of(fault: Fault, chance: Random) -> Change:
    """Return what a fault does, for one flight."""
    return _CHANGES[fault.name if fault.name in _CHANGES else fault.kind](chance)


def _off(_: Random) -> Change:
    return lambda event, header: None


def _stuck(_: Random) -> Change:
    """Repeat the first message that it befalls, with the stamps of those that it stands for."""
    held: list[tuple[Header, bytes]] = []

    def change(event: Event, header: Header) -> Event:
        if not held:
            held.append((header, event.payload))
        content, payload = held[0]
        stamped = content._replace(
            epoch=header.epoch, sequence=header.sequence, capture_ns=header.capture_ns, send_ns=header.send_ns
        )
        return _altered(event, stamped, payload)

    return change


def _garbage(chance: Random) -> Change:
    """Damage each message in another way, so that it contradicts itself whatever its kind."""

    def change(event: Event, header: Header) -> Event:
        how = chance.randrange(5)
        if how == 0:
            return dataclasses.replace(event, payload=event.payload[: chance.randrange(max(len(event.payload), 1))])
        if how == 1:
            return dataclasses.replace(event, payload=event.payload + chance.randbytes(chance.randint(1, 64)))
        if how == 2:
            return dataclasses.replace(event, header=header._replace(magic=b"\0" + chance.randbytes(3)))
        if how == 3:
            return dataclasses.replace(event, header=header._replace(version=chance.randint(2, 255)))
        return dataclasses.replace(event, header=header._replace(dtype=chance.randint(5, 255)))

    return change


def _wrong(chance: Random) -> Change:
    """Replace each message by one that is well-formed, and nothing that this sensor can have seen."""
    how = chance.randrange(3)

    def change(event: Event, header: Header) -> Event:
        if header.kind != Kind.IQ:
            return (_black, _overexposed, _radio)[how](event, header)
        return (_other_rate, _all_zero, _overdriven)[how](event, header)

    return change


def _black(event: Event, header: Header) -> Event:
    return _frame(event, header, b"\0")


def _overexposed(event: Event, header: Header) -> Event:
    return _frame(event, header, b"\xff")


def _frame(event: Event, header: Header, level: bytes) -> Event:
    rows, columns, colours = _BLACK_PX
    shaped = header._replace(kind=Kind.FRAME, dtype=_UINT8, ndim=3, dim0=rows, dim1=columns, dim2=colours)
    return _altered(event, shaped, level * (rows * columns * colours))


def _radio(event: Event, header: Header) -> Event:
    samples = 256
    shaped = header._replace(kind=Kind.IQ, dtype=_UINT8, ndim=2, dim0=samples, dim1=2, dim2=0, sample_rate_hz=1e6)
    return _altered(event, shaped, bytes(2 * samples))


def _other_rate(event: Event, header: Header) -> Event:
    return dataclasses.replace(event, header=header._replace(sample_rate_hz=2 * header.sample_rate_hz))


def _all_zero(event: Event, header: Header) -> Event:
    return _altered(event, header, bytes(len(event.payload)))


def _overdriven(event: Event, header: Header) -> Event:
    """Put every sample at the end of its range; a float, which has none, becomes infinite."""
    sample = _LARGEST.get(header.dtype, b"\0\0\x80\x7f")
    return _altered(event, header, (sample * len(event.payload))[: len(event.payload)])


def _slow(chance: Random) -> Change:
    every = chance.randint(*SLOWEST)
    seen = [0]

    def change(event: Event, header: Header) -> Event | None:
        seen[0] += 1
        return event if seen[0] % every == 0 else None

    return change


def _intermittent(chance: Random) -> Change:
    """Begin with a pause."""
    phase: list[int] = []
    """When the present phase ends, and whether messages come in it."""

    def change(event: Event, header: Header) -> Event | None:
        if not phase:
            phase[:] = [event.log_ns + _phase_ns(chance), 0]
        while event.log_ns >= phase[0]:
            phase[:] = [phase[0] + _phase_ns(chance), 1 - phase[1]]
        return event if phase[1] else None

    return change


def _phase_ns(chance: Random) -> int:
    return round(chance.uniform(*PHASE_S) * _NS_PER_S)


def _jump(chance: Random) -> Change:
    jump_ns = round(chance.choice((-1, 1)) * chance.uniform(SMALLEST_JUMP_S, LARGEST_JUMP_S) * _NS_PER_S)

    def change(event: Event, header: Header) -> Event:
        jumped = header._replace(capture_ns=header.capture_ns + jump_ns, send_ns=header.send_ns + jump_ns)
        return dataclasses.replace(event, header=jumped)

    return change


def _altered(event: Event, header: Header, payload: bytes) -> Event:
    """Return an event with other contents, which its header agrees with."""
    is_same = payload == event.payload
    flags = header.flags if is_same else header.flags & ~FLAG_CRC
    agreeing = header._replace(flags=flags, payload_bytes=len(payload))
    return dataclasses.replace(event, kind=Kind(header.kind), header=agreeing, payload=payload)


_CHANGES: dict[str, Callable[[Random], Change]] = {
    OFF: _off,
    STUCK: _stuck,
    GARBAGE: _garbage,
    WRONG: _wrong,
    SLOW: _slow,
    INTERMITTENT: _intermittent,
    CLOCK_JUMP: _jump,
}
