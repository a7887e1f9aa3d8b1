"""One timeline for all streams: rates, pauses, steps, laps, and how well distances are kept."""

import itertools
import threading
from pathlib import Path

import pytest
from recorded import PERIOD_NS, START_NS, iq_message

from edge.clock import VirtualClock
from edge.recording.controls import FASTEST, SLOWEST, Command, Controls
from edge.recording.laps import lap_ns, laps
from edge.recording.pacing import Pacer
from edge.recording.reader import Event, Recording, open_recording
from edge.recording.spacing import SpacingErrors
from edge.recording.timeline import FastTimeline, PacedTimeline
from edge.recording.writer import RecordingWriter
from edge.transport.messages import Kind, Pose, Truth

S = 1_000_000_000
PATIENCE_S = 20.0


def test_a_rate_scales_what_comes_and_keeps_what_was() -> None:
    timeline = PacedTimeline(1.0, 100 * S)
    timeline.begin(5 * S)
    timeline.change_rate(0.5, 7 * S)
    timeline.change_rate(4.0, 11 * S)
    moments = [100.0, 101.0, 102.0, 103.0, 104.0, 108.0]
    assert [timeline.present_ns(round(moment * S)) / S for moment in moments] == [5.0, 6.0, 7.0, 9.0, 11.0, 12.0]
    assert timeline.present_ns(98 * S) == 3 * S


def test_times_never_go_back_where_the_rate_changes() -> None:
    timeline = PacedTimeline(4.0, 0)
    timeline.begin(0)
    for n, rate in enumerate((0.25, 2.0, 0.125, 1.0), 1):
        timeline.change_rate(rate, n * S)
    times = [timeline.present_ns(moment) for moment in range(-S, 8 * S, S // 50)]
    assert all(after > before for before, after in itertools.pairwise(times))


def test_what_is_put_off_is_later_whatever_the_rate() -> None:
    timeline = PacedTimeline(2.0, 0)
    timeline.begin(0)
    timeline.change_rate(1.0, S)
    before = [timeline.present_ns(n * S) for n in range(5)]
    timeline.put_off(3 * S)
    assert [timeline.present_ns(n * S) for n in range(5)] == [at_ns + 3 * S for at_ns in before]


def test_a_fast_timeline_that_paused_does_not_make_old_what_was_captured_before() -> None:
    timeline = FastTimeline()
    timeline.begin(0)
    timeline.pass_by(0, 100)
    timeline.put_off(10 * S)
    timeline.pass_by(1000, 10 * S + 200)
    assert timeline.present_ns(500) == 10 * S + 150


def test_rates_double_and_halve_within_their_limits() -> None:
    controls = Controls(1.0)
    rates = []
    for command in [Command.FASTER] * 8 + [Command.SLOWER] * 16:
        controls.ask(command)
        rates.append(controls.rate)
    assert rates[:3] == [2.0, 4.0, 8.0]
    assert (max(rates), min(rates)) == (FASTEST, SLOWEST)


def test_a_step_pauses_first_and_going_on_forgets_steps() -> None:
    controls = Controls(None)
    controls.ask(Command.STEP)
    assert (controls.is_paused, controls.steps) == (True, 0)
    controls.ask(Command.STEP)
    controls.ask(Command.STEP)
    controls.ask(Command.FASTER)
    assert (controls.steps, controls.rate) == (2, None)
    controls.ask(Command.PAUSE)
    assert (controls.is_paused, controls.steps) == (False, 0)


def _event(n: int, stream: str = "radio") -> Event:
    header, _, payload = iq_message(0, START_NS)
    return Event(log_ns=n * PERIOD_NS, kind=Kind.IQ, stream=stream, header=header, payload=payload, message=None)


class _Passing:
    """Events that a thread lets pass, one after the other."""

    def __init__(self, pacer: Pacer, events: list[Event]) -> None:
        self.passed: list[Event] = []
        self.is_over = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._pass, args=(pacer, events))
        self._thread.start()

    def _pass(self, pacer: Pacer, events: list[Event]) -> None:
        for event in events:
            if not pacer.wait_for(event):
                break
            with self._changed:
                self.passed.append(event)
                self._changed.notify_all()

    def wait_for(self, count: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.passed) >= count, PATIENCE_S)

    def join(self) -> int:
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()
        return len(self.passed)


@pytest.mark.parametrize("rate", [1000.0, None])
def test_each_step_goes_on_to_the_next_message_of_the_slowest_stream(rate: float | None) -> None:
    controls = Controls(rate)
    pacer = Pacer(VirtualClock(S), controls, 0, "camera")
    pacer.begin()
    controls.ask(Command.PAUSE)
    passing = _Passing(pacer, [_event(n, "radio" if n % 3 else "camera") for n in range(10)])
    counts = []
    for due in (1, 4, 7):
        controls.ask(Command.STEP)
        passing.wait_for(due)
        counts.append(len(passing.passed))
    controls.ask(Command.STOP)
    assert counts == [1, 4, 7]
    assert passing.join() == 7


def test_a_pause_is_no_delay_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    controls, clock = Controls(1.0), VirtualClock(S)
    pacer = Pacer(clock, controls, 0, "")
    pacer.begin()
    assert pacer.wait_for(_event(0))
    pacer.note_sent(_event(0))
    controls.ask(Command.PAUSE)

    def press() -> None:
        clock.advance_to(clock.now_ns() + 60 * S)
        controls.is_paused = False

    monkeypatch.setattr(controls.changed, "wait", lambda timeout=None: press() if timeout is None else False)
    assert pacer.wait_for(_event(0))
    pacer.note_sent(_event(0))
    assert (pacer.paused_ns, pacer.put_off_ns) == (60 * S, 0)
    spacing = pacer.spacing()
    assert spacing is not None
    assert spacing.max_ms == 0.0
    assert pacer.timeline.present_ns(PERIOD_NS) == 61 * S + PERIOD_NS


def test_spacing_is_told_for_each_stream_by_itself() -> None:
    errors = SpacingErrors()
    assert errors.spacing() is None
    for late_ns in [0, *[0] * 98, 5_000_000, 5_000_000]:
        errors.note("radio", late_ns)
    errors.note("camera", 9_000_000)
    spacing = errors.spacing()
    assert spacing is not None
    assert (spacing.count, spacing.p50_ms, spacing.p99_ms, spacing.max_ms) == (100, 0.01, 0.01, 5.0)
    errors.note("camera", 7_000_000)
    spacing = errors.spacing()
    assert spacing is not None
    assert spacing.p99_ms == pytest.approx(2.0, abs=0.011)


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    """Return three windows 10 ms apart, with a pose and the truth beside the first."""
    path = tmp_path_factory.mktemp("flight") / "flight.mcap"
    with RecordingWriter(path) as writer:
        for n in range(3):
            writer.write_sensor("radio", *iq_message(n, START_NS + n * PERIOD_NS), START_NS + n * PERIOD_NS)
        pose = Pose(capture_ns=START_NS, latitude_deg=1.0, longitude_deg=2.0, altitude_m=3.0)
        writer.write_message(pose, START_NS)
        writer.write_message(Truth(capture_ns=START_NS, class_id=1, label="site"), START_NS)
    return open_recording(path)


def test_laps_go_on_in_time_and_begin_new_epochs(recording: Recording) -> None:
    assert lap_ns(recording) == 3 * PERIOD_NS
    events = list(laps(recording, 3))
    radio = [event.header for event in events if event.header is not None]
    assert [header.capture_ns for header in radio] == [START_NS + n * PERIOD_NS for n in range(9)]
    assert [header.sequence for header in radio] == [0, 1, 2] * 3
    assert [header.epoch - radio[0].epoch for header in radio] == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert [event.log_ns for event in events] == sorted(event.log_ns for event in events)
    told = [event.message for event in events if event.message is not None]
    assert {message.capture_ns for message in told} == {START_NS + n * 3 * PERIOD_NS for n in range(3)}


def test_laps_without_an_end_never_end(recording: Recording) -> None:
    assert len(list(itertools.islice(laps(recording, None), 100))) == 100


def test_an_epoch_of_the_wire_stays_one(tmp_path: Path) -> None:
    header, header_bytes, payload = iq_message(0, START_NS)
    with RecordingWriter(tmp_path / "flight.mcap") as writer:
        writer.write_sensor("radio", header._replace(epoch=0xFFFFFFFF), header_bytes, payload, START_NS)
    events = list(laps(open_recording(tmp_path / "flight.mcap"), 2))
    assert all(event.header is not None and 0 <= event.header.epoch < 1 << 32 for event in events)
