"""Which of a socket's messages come too late, since when they may have waited, and how many are held at a time."""

from hypothesis import given
from hypothesis import strategies as st

from edge.clock import VirtualClock
from edge.sources.backlog import Backlog


class Waiting:
    """A socket in which messages of one part wait, by their number and length."""

    def __init__(self) -> None:
        self.messages: list[list[memoryview]] = []
        self.timeouts: list[int] = []

    def arrive(self, *lengths: int) -> None:
        self.messages += [[memoryview(bytes(length))] for length in lengths]

    def receive(self, timeout_ms: int) -> list[memoryview] | None:
        self.timeouts.append(timeout_ms)
        return self.messages.pop(0) if self.messages else None


def of(socket: Waiting, limit_bytes: int | None = 100) -> Backlog:
    return Backlog(socket, limit_bytes, VirtualClock().now_ns)


def drained(backlog: Backlog) -> list[tuple[int, bool]]:
    """Return lengths, and whether they were stale."""
    found = []
    while (message := backlog.receive(0)) is not None:
        found.append((len(message.parts[0]), message.is_stale))
    return found


def test_messages_that_wait_for_no_longer_than_allowed_come_in_their_order() -> None:
    socket = Waiting()
    socket.arrive(10, 40, 30, 30)
    assert drained(of(socket)) == [(10, False), (40, False), (30, False), (30, False)]


def test_where_more_waits_behind_a_message_all_that_waits_is_stale_and_what_comes_later_is_not() -> None:
    socket = Waiting()
    backlog = of(socket)
    socket.arrive(10, 40, 30, 31)
    assert drained(backlog) == [(10, True), (40, True), (30, True), (31, True)]
    socket.arrive(7)
    assert drained(backlog) == [(7, False)]


def test_what_may_wait_can_change_from_one_message_to_the_next() -> None:
    socket = Waiting()
    backlog = of(socket)
    socket.arrive(10, 40, 30, 30)
    assert not backlog.receive(0).is_stale  # type: ignore[union-attr]
    backlog.limit_bytes = 59
    assert drained(backlog) == [(40, True), (30, True), (30, True)]
    backlog.limit_bytes = 60
    socket.arrive(40, 30, 30)
    assert drained(backlog) == [(40, False), (30, False), (30, False)]


def test_a_single_message_is_never_stale_however_long() -> None:
    socket = Waiting()
    socket.arrive(1000)
    assert drained(of(socket)) == [(1000, False)]


def test_of_a_backlog_of_any_length_only_what_may_wait_is_held() -> None:
    socket = Waiting()
    socket.arrive(*[10] * 1000)
    backlog = of(socket)
    assert backlog.receive(0) is not None
    assert len(socket.messages) == 1000 - 12
    assert [stale for _, stale in drained(backlog)] == [True] * 999


def test_it_waits_for_a_message_only_where_none_is_there() -> None:
    socket = Waiting()
    backlog = of(socket)
    assert backlog.receive(70) is None
    socket.arrive(1, 2)
    assert backlog.receive(70) is not None
    assert backlog.receive(70) is not None
    assert [timeout for timeout in socket.timeouts if timeout] == [70, 70]


def test_a_message_came_after_the_last_look_at_an_empty_socket() -> None:
    socket, clock = Waiting(), VirtualClock(1)
    backlog = Backlog(socket, 100, clock.now_ns)
    found = []
    for arrived, at_ns in ((1, 10), (1, 20), (0, 30), (3, 40)):
        socket.arrive(*[5] * arrived)
        clock.advance_to(at_ns)
        message = backlog.receive(0)
        found += [] if message is None else [message.empty_ns]
    clock.advance_to(50)
    while (message := backlog.receive(0)) is not None:
        found.append(message.empty_ns)
    assert found == [1, 10, 30, 30, 30]


def test_what_came_before_a_process_was_held_up_between_two_looks_is_not_taken_for_new() -> None:
    clock = VirtualClock(10)

    class HeldUp(Waiting):
        def receive(self, timeout_ms: int) -> list[memoryview] | None:
            found = super().receive(timeout_ms)
            clock.advance_to(1000)
            return found

    socket = HeldUp()
    backlog = Backlog(socket, 100, clock.now_ns)
    assert backlog.receive(0) is None
    socket.arrive(5)
    assert backlog.receive(0).empty_ns == 10  # type: ignore[union-attr]


def test_without_a_limit_nothing_is_stale_and_nothing_is_held() -> None:
    socket = Waiting()
    socket.arrive(*[1000] * 50)
    backlog = of(socket, None)
    assert backlog.receive(0) is not None
    assert len(socket.messages) == 49
    assert not any(stale for _, stale in drained(backlog))


@given(st.lists(st.one_of(st.none(), st.integers(0, 60)), max_size=60))
def test_every_message_comes_once_in_order_and_what_is_fresh_had_no_more_behind_it(steps: list[int | None]) -> None:
    socket = Waiting()
    backlog = of(socket)
    arrived: list[int] = []
    taken: list[int] = []
    for step in steps:
        if step is not None:
            socket.arrive(step)
            arrived.append(step)
            continue
        message = backlog.receive(0)
        if message is not None:
            taken.append(len(message.parts[0]))
            assert message.is_stale or sum(arrived[len(taken) :]) <= 100
    assert taken + [length for length, _ in drained(backlog)] == arrived
