"""The receiving side of one stream, whichever way its payloads come: by socket, or in shared memory with a note."""

from types import TracebackType

from edge.config import StreamConfig
from edge.transport.ring import Loan, RingReader
from edge.transport.sockets import HELD_S, Subscriber, queue_length
from edge.transport.wire import FLAG_RING, Header, Reason, check_payload, decode_header

Payload = bytes | memoryview | Loan
"""A loan's content may change at any time: whoever uses it asks `is_intact` afterwards."""


def payload_view(payload: Payload) -> bytes | memoryview:
    """Return a payload's bytes."""
    return payload.view if isinstance(payload, Loan) else payload


def is_intact(payload: Payload) -> bool:
    """Say whether what was read from a payload until now is what was sent."""
    return not isinstance(payload, Loan) or payload.is_intact()


class Inbox:
    """Receives the messages of one endpoint; use as a context. Garbage comes back as a `Reason`."""

    def __init__(self, subscriber: Subscriber, ring: RingReader | None = None) -> None:
        """Take the socket, and the ring that notes refer to: without one they are refused."""
        self._subscriber = subscriber
        self._ring = ring

    @property
    def broken_connections(self) -> int:
        """How often a peer broke the protocol, most often by a message over `max_message_bytes`."""
        return self._subscriber.broken_connections

    def receive(self, timeout_ms: int) -> tuple[Header, Payload] | Reason | None:
        """Return the next message, or why it is refused; None after `timeout_ms`."""
        message = self.receive_unchecked(timeout_ms)
        if message is None or isinstance(message, Reason):
            return message
        header, payload = message
        reason = check_payload(header, payload_view(payload))
        if reason is Reason.CRC and not is_intact(payload):
            return message
        return reason or message

    def receive_unchecked(self, timeout_ms: int) -> tuple[Header, Payload] | Reason | None:
        """Do as `receive`, but let a payload pass that contradicts its header: for who keeps what came."""
        parts = self._subscriber.receive(timeout_ms)
        if parts is None:
            return None
        if len(parts) != 2:
            return Reason.PARTS
        header = decode_header(parts[0])
        if isinstance(header, Reason):
            return header
        if not header.flags & FLAG_RING:
            return header, parts[1]
        loan = self._ring.borrow(header, parts[1]) if self._ring is not None else Reason.RING
        return loan if isinstance(loan, Reason) else (header, loan)

    def close(self) -> None:
        """Close at once."""
        self._subscriber.close()
        if self._ring is not None:
            self._ring.close()

    def __enter__(self) -> "Inbox":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_inbox(stream: StreamConfig, *, held_s: float = HELD_S) -> Inbox:
    """Return the inbox of a deployment's stream, which keeps what comes while its owner is held up for so long."""
    waiting = queue_length(stream.rate_hz, held_s)
    subscriber = Subscriber(stream.endpoint, max_message_bytes=stream.max_message_bytes, high_water_mark=waiting)
    return Inbox(subscriber, RingReader(stream.endpoint) if stream.transport == "shm" else None)
