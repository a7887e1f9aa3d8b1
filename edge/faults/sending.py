"""Lets faults befall what a source sends, at its socket: behind it everything is as in flight, and nothing before it.

A source without faults has a Publisher and knows nothing of this.
"""

import logging
from collections.abc import Sequence

from edge.clock import Clock, SystemClock
from edge.faults.fault import Fault
from edge.faults.injector import Injector
from edge.faults.orders import Orders
from edge.recording.reader import Event
from edge.transport.messages import Kind
from edge.transport.ring import Loan, RingReader
from edge.transport.sockets import HIGH_WATER_MARK, Buffer, Publisher
from edge.transport.wire import FLAG_RING, Header, Reason, decode_header, encode_header

log = logging.getLogger(__name__)


class FaultyPublisher(Publisher):
    """Sends what faults leave of a stream's messages.

    What is delayed is sent with the first message after it is due, so up to a period of the stream later. A message
    that a fault looks at and that lies in shared memory is sent through the socket, which receivers take as well.
    """

    def __init__(
        self,
        endpoint: str,
        stream: str,
        orders: Orders,
        *,
        high_water_mark: int = HIGH_WATER_MARK,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(endpoint, high_water_mark=high_water_mark)
        self._stream = stream
        self._orders = orders
        self._clock = clock or SystemClock()
        self._ring = RingReader(endpoint)
        self._injector: Injector | None = None
        self._own = [fault for fault in orders.faults if fault.befalls(stream)]
        self._on: tuple[Fault, ...] = ()

    def send(self, parts: Sequence[Buffer], *, keep: bool = False) -> None:
        """Send what becomes of a message of header and payload, and what was held until now."""
        event = self._event(parts)
        if event is None or self._injector is None:
            super().send(parts, keep=keep)
            return
        for left in self._injector.take(event):
            super().send(parts if left is event else _parts(left), keep=keep)

    def close(self, *, linger_ms: int = 0) -> None:
        """Send what is still held, and close."""
        if self._injector is not None:
            for left in self._injector.rest():
                super().send(_parts(left))
            self._injector = None
        self._ring.close()
        super().close(linger_ms=linger_ms)

    def _event(self, parts: Sequence[Buffer]) -> Event | None:
        """Return a message as faults look at it; None while none can befall it."""
        injected = self._orders.injected()
        if not injected.begin_ns:
            return None
        if self._injector is None:
            self._injector = Injector(self._orders.faults, injected.seed, injected.begin_ns)
        now_ns = self._clock.now_ns()
        on = tuple(fault for fault in self._own if fault.is_on(now_ns, injected.begin_ns))
        self._tell(on)
        header = decode_header(parts[0])
        payload = self._payload(header, parts[1]) if on and isinstance(header, Header) else b""
        if isinstance(header, Reason) or payload is None:
            return None
        inline = header._replace(flags=header.flags & ~FLAG_RING)
        return Event(
            log_ns=now_ns, kind=Kind(header.kind), stream=self._stream, header=inline, payload=payload, message=None
        )

    def _payload(self, header: Header, part: Buffer) -> bytes | None:
        """Return a payload, wherever it lies; None where shared memory does not give it back."""
        if not header.flags & FLAG_RING:
            return bytes(part)
        loan = self._ring.borrow(header, part)
        return bytes(loan.view) if isinstance(loan, Loan) else None

    def _tell(self, on: tuple[Fault, ...]) -> None:
        """Log what begins and what ends."""
        for fault in on:
            if fault not in self._on:
                log.warning("FAULT INJECTED into %s: %s", self._stream, fault)
        for fault in self._on:
            if fault not in on:
                log.warning("the fault of %s is over: %s", self._stream, fault)
        self._on = on


def _parts(event: Event) -> tuple[bytes, bytes]:
    """Return an event as it goes over the wire."""
    if event.header is None:
        raise ValueError("a sensor's message without a header")
    return encode_header(event.header), event.payload
