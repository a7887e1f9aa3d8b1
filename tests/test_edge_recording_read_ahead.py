"""Events are read before they are wanted: all of them, in order, and not too many at once."""

import threading
from collections.abc import Iterator

import pytest

from edge.recording import read_ahead
from edge.recording.read_ahead import ReadAhead
from edge.recording.reader import Event
from edge.transport.messages import Kind
from models.errors import RecordingError


def _event(n: int, size: int = 10) -> Event:
    return Event(log_ns=n, kind=Kind.MAVLINK, stream="mavlink/rx", header=None, payload=bytes(size), message=None)


def test_every_event_comes_in_order() -> None:
    with ReadAhead(_event(n) for n in range(5_000)) as events:
        assert [event.log_ns for event in events] == list(range(5_000))


def test_what_reading_raises_comes_after_what_was_read() -> None:
    def broken() -> Iterator[Event]:
        yield _event(0)
        yield _event(1)
        raise RecordingError("a bad chunk")

    with ReadAhead(broken()) as events:
        assert [next(events).log_ns, next(events).log_ns] == [0, 1]
        with pytest.raises(RecordingError, match="a bad chunk"):
            next(events)


def test_a_file_that_is_gone_is_an_error_and_no_end() -> None:
    def vanishing() -> Iterator[Event]:
        yield _event(0)
        raise OSError(5, "Input/output error")

    with ReadAhead(vanishing()) as events:
        assert next(events).log_ns == 0
        with pytest.raises(RecordingError, match=r"cannot be read any more .*Input/output error"):
            next(events)


@pytest.mark.parametrize(("size", "most"), [(1 << 20, read_ahead.MAX_BYTES >> 20), (0, read_ahead.MAX_EVENTS)])
def test_no_more_is_held_than_may_be(size: int, most: int) -> None:
    made: list[int] = []
    limits = most + 2

    def counted() -> Iterator[Event]:
        for n in range(4 * most):
            made.append(n)
            yield _event(n, size)

    with ReadAhead(counted()) as events:
        for taken, _ in enumerate(events, 1):
            assert len(made) <= taken + limits
    assert len(made) == 4 * most


def test_an_early_end_stops_the_reading() -> None:
    before = threading.active_count()
    with ReadAhead(_event(n, 1 << 20) for n in range(1_000_000)) as events:
        assert next(events).log_ns == 0
    assert threading.active_count() == before


def test_nothing_is_nothing() -> None:
    with ReadAhead(iter(())) as events:
        assert list(events) == []
