"""The process that plays a recording in a live replay, and how its parent speaks with it.

It is a process of its own: beside a thread that draws, judges and decodes answers, a player is late by milliseconds.
"""

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from edge.clock import SystemClock
from edge.faults.injector import NO_FAULTS, FaultPlan
from edge.mavlink.logs.replayed import ReplayedAutopilot
from edge.recording.controls import Command
from edge.recording.laps import laps
from edge.recording.pacing import PutOff
from edge.recording.played import Played
from edge.recording.player import LINGER_MS, Player
from edge.recording.read_ahead import ReadAhead
from edge.recording.reader import Event, Recording
from edge.recording.telemetry import events_with_telemetry
from edge.transport.messages import Pose, Truth
from models.errors import LinkError, OnboardError

LISTENERS_TIMEOUT_S = 60.0
POSITION_PERIOD_S = 0.1
SWITCH_INTERVAL_S = 0.0005
"""The reading thread lets go of Python so soon, when the playing one is due."""
_END_TIMEOUT_S = LINGER_MS / 1000 + 3.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Program:
    """What is to be played, and how."""

    recording: Recording
    endpoints: Mapping[str, str]
    """Where to publish each sensor's stream, and the vehicle's poses as `pose`."""
    rate: float | None = 1.0
    """Times real time; None: as fast as all listeners take it, without loss."""
    laps: int | None = 1
    """How often; None: until it is stopped."""
    plan: FaultPlan = NO_FAULTS
    """Faults that befall it."""
    autopilot: str | None = None
    """Link on which the vehicle's autopilot is heard."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Position:
    """How far it has come."""

    recorded_ns: int
    """Time of the recording that has gone by, all laps together."""
    rate: float | None
    is_paused: bool


@dataclass(frozen=True, slots=True)
class _Begun:
    at_ns: int


_Report = _Begun | PutOff | Position | Truth | Played | OnboardError


class Playback:
    """Plays in a process of its own; use as a context."""

    def __init__(self, program: Program, note: Callable[[Truth], object]) -> None:
        """Take what to play.

        Args:
            program: what, and how.
            note: told every truth, with its time of the present.
        """
        context = multiprocessing.get_context("spawn")
        self._link, self._theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(program, self._theirs), daemon=True)
        self._note = note
        self.begin_ns: int | None = None
        """When the flight began, once it has."""
        self._put_offs: list[PutOff] = []
        self.position: Position | None = None
        """Where it was a moment ago."""
        self.played: Played | None = None
        """What was played, once that is over."""

    def __enter__(self) -> "Playback":
        self._process.start()
        self._theirs.close()
        return self

    def __exit__(self, *_: object) -> None:
        if self.played is not None:
            self._process.join(_END_TIMEOUT_S)
        self._link.close()
        self._process.terminate()
        self._process.join()

    def begin(self) -> None:
        """Let it play as soon as somebody listens to every stream."""
        self._send(None)

    def ask(self, command: Command) -> None:
        """Pass on what somebody wants."""
        self._send(command)

    def poll(self) -> None:
        """Take what the process has said since the last call.

        Raises:
            OnboardError: what went wrong there.
        """
        try:
            while self.played is None and self._link.poll():
                self._take(self._link.recv())
        except (EOFError, ConnectionError) as error:
            raise LinkError("the process that plays the recording died: see its messages above") from error

    def take_put_offs(self) -> list[PutOff]:
        """Return the delays of the flight that were told since the last call."""
        put_offs, self._put_offs = self._put_offs, []
        return put_offs

    def _send(self, word: Command | None) -> None:
        try:
            self._link.send(word)
        except OSError:  # it is over or died: `poll` says which
            return

    def _take(self, report: _Report) -> None:
        if isinstance(report, OnboardError):
            raise report
        if isinstance(report, _Begun):
            self.begin_ns = report.at_ns
        elif isinstance(report, PutOff):
            self._put_offs.append(report)
        elif isinstance(report, Position):
            self.position = report
        elif isinstance(report, Played):
            self.played = report
        else:
            self._note(report)


_Link = multiprocessing.connection.Connection


def _serve(program: Program, link: "_Link[_Report, Command | None]") -> None:
    """Play when told to, tell what happens, and do what is asked; end where the parent ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    speaking = threading.Lock()

    def tell(report: _Report) -> None:
        with speaking:
            link.send(report)

    def note(message: Truth | Pose) -> None:
        if isinstance(message, Truth):
            tell(message)

    try:
        with contextlib.ExitStack() as stack:
            autopilot = None
            if program.autopilot is not None:
                autopilot = stack.enter_context(ReplayedAutopilot(program.autopilot, SystemClock()).answering())
            player = stack.enter_context(
                Player(
                    program.recording,
                    program.endpoints,
                    rate=program.rate,
                    note=note,
                    autopilot=autopilot.send if autopilot is not None else None,
                )
            )
            if link.recv() is not None:
                return
            player.wait_for_listeners(LISTENERS_TIMEOUT_S)
            threading.Thread(target=_obey, args=(link, player, tell), daemon=True).start()
            events = stack.enter_context(ReadAhead(_events(program)))
            played = player.play(events, lambda begin_ns: tell(_Begun(begin_ns)), tell)
        tell(played)
    except OnboardError as error:
        tell(error)


def _events(program: Program) -> Iterator[Event]:
    """Return what is to be played: the laps of the flight, and what faults make of them."""
    recording = program.recording
    of_lap = events_with_telemetry if program.autopilot is not None else Recording.events
    return program.plan.befall(laps(recording, program.laps, of_lap), recording.start_ns)


def _obey(link: "_Link[_Report, Command | None]", player: Player, tell: Callable[[_Report], None]) -> None:
    """Do what is asked, and tell the position; without a parent nobody needs this process any more."""
    try:
        while True:
            if link.poll(POSITION_PERIOD_S):
                command = link.recv()
                if command is not None:
                    player.controls.ask(command)
            controls = player.controls
            tell(Position(recorded_ns=player.position_ns, rate=controls.rate, is_paused=controls.is_paused))
    except (EOFError, OSError):
        os._exit(1)
