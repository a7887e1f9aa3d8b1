"""Lets each event of a flight pass when its time has come, or when those who play it allow."""

from collections.abc import Callable
from dataclasses import dataclass

from edge.clock import Clock
from edge.recording.controls import Controls
from edge.recording.reader import Event
from edge.recording.spacing import Spacing, SpacingErrors
from edge.recording.timeline import FastTimeline, PacedTimeline

MAX_LATE_NS = 20_000_000
"""Later than this, the rest of the flight is put off instead of being hurried."""


@dataclass(frozen=True, slots=True)
class PutOff:
    """A delay of the rest of a flight, in times of the present."""

    since_ns: int
    """What was to happen after this moment happens later."""
    by_ns: int


class Pacer:
    """One timeline for all streams: when this machine is too slow, all are slowed together. For one thread."""

    def __init__(self, clock: Clock, controls: Controls, recorded_start_ns: int, step_stream: str) -> None:
        """Make ready.

        Args:
            clock: of the present.
            controls: that are obeyed.
            recorded_start_ns: when the flight begins, in its own time.
            step_stream: a step goes on up to its next message; empty: to any.
        """
        self._clock = clock
        self._controls = controls
        self._step_stream = step_stream
        rate = controls.rate
        self.timeline = FastTimeline() if rate is None else PacedTimeline(rate, recorded_start_ns)
        self.begin_ns = 0
        """When playing began."""
        self.paused_ns = 0
        """For how long nobody wanted anything to be played."""
        self.put_off_ns = 0
        """By how much the flight was slowed down, because this machine was behind."""
        self._errors = SpacingErrors()
        self._passed_ns = recorded_start_ns
        self._note_put_off: Callable[[PutOff], object] = lambda _: None

    def begin(self, note_put_off: Callable[[PutOff], object] = lambda _: None) -> None:
        """Let the flight begin now.

        Args:
            note_put_off: told each time that it is slowed down, before the event that came too late passes.
        """
        self._note_put_off = note_put_off
        self.begin_ns = self._clock.now_ns()
        self.timeline.begin(self.begin_ns)

    def wait_for(self, event: Event) -> bool:
        """Wait until an event is to be played; say whether it is, or everything was stopped."""
        controls, timeline = self._controls, self.timeline
        with controls.changed:
            while not controls.is_stopped:
                if controls.is_paused and not controls.steps:
                    self._pause()
                    continue
                now_ns = self._clock.now_ns()
                if isinstance(timeline, FastTimeline):
                    break
                if controls.rate is not None and controls.rate != timeline.rate:
                    timeline.change_rate(controls.rate, now_ns)
                wait_ns = timeline.present_ns(event.log_ns) - now_ns
                if wait_ns <= 0 or not controls.changed.wait(wait_ns / 1e9):
                    break
            if controls.is_stopped:
                return False
            if controls.steps and event.stream == (self._step_stream or event.stream):
                controls.steps -= 1
        self._pass(event.log_ns)
        return True

    def note_sent(self, event: Event) -> None:
        """Take note of when an event was sent: just now."""
        if isinstance(self.timeline, PacedTimeline):
            due_ns = self.timeline.present_ns(event.log_ns) - self.put_off_ns
            self._errors.note(event.stream, self._clock.now_ns() - due_ns)

    def spacing(self) -> Spacing | None:
        """Return how well the messages that were sent kept their distances; None where there is no schedule."""
        return self._errors.spacing()

    def _pass(self, recorded_ns: int) -> None:
        now_ns = self._clock.now_ns()
        self.timeline.pass_by(recorded_ns, now_ns)
        late_ns = now_ns - self.timeline.present_ns(recorded_ns)
        if late_ns > MAX_LATE_NS:
            self._note_put_off(PutOff(self.timeline.present_ns(self._passed_ns), late_ns))
            self.timeline.put_off(late_ns)
            self.put_off_ns += late_ns
        self._passed_ns = recorded_ns

    def _pause(self) -> None:
        """Wait until something changes; the flight goes on as much later."""
        since_ns = self._clock.now_ns()
        self._controls.changed.wait()
        paused_ns = self._clock.now_ns() - since_ns
        self.timeline.put_off(paused_ns)
        self.paused_ns += paused_ns
