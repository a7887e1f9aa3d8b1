"""Keeps the processes of a flight running: starts them, restarts what dies, stops all in order."""

import ctypes
import logging
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edge.config import FlightConfig
from models.errors import BundleError, ConfigError, DeviceError, LinkError, OnboardError, RecordingError

log = logging.getLogger(__name__)

PIPELINE = "pipeline"
"""The one process without which there is no flight; any other is tried again for ever."""
RECORDER = "recorder"
MAVLINK = "mavlink"
MAX_RESTARTS = 5
RESTART_WINDOW_S = 60.0
FIRST_BACKOFF_S = 0.2
MAX_BACKOFF_S = 10.0
STOP_TIMEOUT_S = 5.0
_FATAL = {error.exit_code: error for error in (ConfigError, BundleError, DeviceError, LinkError)}
"""Exit codes that a restart cannot mend, if a process says them at once, and at the start of the flight."""
_SETTLED_S = 2.0
"""After which a start has gone well; the pipeline may load plans for longer, and says such codes at no other time."""
_PR_SET_PDEATHSIG = 1
_CRASHES = (-signal.SIGSEGV, -signal.SIGABRT, -signal.SIGBUS, -signal.SIGILL, -signal.SIGFPE)
"""Exit codes of a process that a library took down, such as those of a GPU."""
WITHOUT_GPU = "--without-gpu"


@dataclass(slots=True)
class _Child:
    name: str
    arguments: list[str]
    process: subprocess.Popen[bytes] | None = None
    started_s: float = 0.0
    retry_s: float = 0.0
    starts: int = 0
    deaths_s: deque[float] = field(default_factory=deque)
    """When it died, within the last RESTART_WINDOW_S."""
    is_over: bool = False


class Supervisor:
    """Runs `uav-edge` subcommands as child processes, and restarts them with growing pauses."""

    def __init__(self, commands: dict[str, list[str]]) -> None:
        """Take the children's names and their `uav-edge` arguments; they start in this order, and stop in reverse."""
        self._children = [_Child(name=name, arguments=arguments) for name, arguments in commands.items()]

    def __enter__(self) -> "Supervisor":
        for child in self._children:
            self._start(child)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def check(self) -> None:
        """Restart what has died, if its pause is over; call a few times a second.

        Raises:
            OnboardError: at the start of the flight, a process refused for a reason that only the user can mend (it
                has printed it); or the pipeline died more than MAX_RESTARTS times in a minute.
        """
        now_s = time.monotonic()
        for child in self._children:
            code = child.process.poll() if child.process is not None else None
            if child.process is not None and code is not None:
                self._bury(child, code, now_s)
            if child.process is None and not child.is_over and now_s >= child.retry_s:
                self._start(child)

    def process_ids(self) -> dict[str, int]:
        """Return the ids of the processes that run now."""
        return {child.name: child.process.pid for child in self._children if child.process is not None}

    def stop(self) -> None:
        """Ask each process to end, last started first, and kill what does not within a few seconds."""
        for child in reversed(self._children):
            if child.process is None:
                continue
            child.process.terminate()
            try:
                child.process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                log.warning("%s does not stop: killed", child.name)
                child.process.kill()
                child.process.wait()
            child.process = None

    def _start(self, child: _Child) -> None:
        child.started_s = time.monotonic()
        child.starts += 1
        command = [sys.executable, "-m", "edge.cli", *child.arguments]
        child.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=_become_child)
        log.debug("%s started as process %d", child.name, child.process.pid)

    def _bury(self, child: _Child, code: int, now_s: float) -> None:
        child.process = None
        if code == 0:
            child.is_over = True
            log.info("%s has ended", child.name)
        elif child.name == RECORDER and code == RecordingError.exit_code:
            child.is_over = True
            log.error(
                "the recorder cannot write (see above): the flight goes on unrecorded; make room on the disk, or set"
                " another recording.directory, and start again"
            )
        elif code in _FATAL and child.starts == 1 and (child.name == PIPELINE or now_s - child.started_s < _SETTLED_S):
            raise _FATAL[code](f"{child.name} cannot start: see its message above")
        else:
            self._put_off(child, code, now_s)

    def _put_off(self, child: _Child, code: int, now_s: float) -> None:
        """Let a process that died start again after a pause; give up the pipeline if that did not help."""
        deaths_s = child.deaths_s
        deaths_s.append(now_s)
        while now_s - deaths_s[0] > RESTART_WINDOW_S:
            deaths_s.popleft()
        if child.name == PIPELINE and len(deaths_s) > MAX_RESTARTS:
            raise OnboardError(f"{child.name} died {len(deaths_s)} times within a minute: given up, see its log")
        if child.name == PIPELINE and code in _CRASHES and WITHOUT_GPU not in child.arguments:
            child.arguments = [*child.arguments, WITHOUT_GPU]
        pause_s = min(FIRST_BACKOFF_S * 2 ** (len(deaths_s) - 1), MAX_BACKOFF_S)
        child.retry_s = now_s + pause_s
        log.warning("%s died (%s): restarting in %.1f s", child.name, _cause(code), pause_s)


def flight_commands(config: FlightConfig, path: Path, options: Sequence[str] = ()) -> dict[str, list[str]]:
    """Return the processes of a deployment in the order of their start, so that they stop in the reverse one.

    The pipeline stops first, while its sources still send, so that it does not take their end for a failure; those
    that hear its last words stop last.

    Args:
        config: the deployment.
        path: its file.
        options: given to each `uav-edge`, before the subcommand.
    """
    commands = {}
    if config.mavlink is not None:
        commands[MAVLINK] = ["mavlink"]
    if config.recording is not None:
        commands[RECORDER] = ["record"]
    for source in config.sources:
        commands[f"source {source.stream}"] = ["source", "--stream", source.stream]
    commands[PIPELINE] = ["pipeline"]
    return {name: [*options, *command, "--config", str(path)] for name, command in commands.items()}


def _cause(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def _become_child() -> None:
    """Belong to the supervisor, in the process that is to become a child.

    The kernel ends it when its supervisor is killed, so that no orphan holds a socket. It has a process group of its
    own: Ctrl-C reaches the supervisor alone, which stops all in order. It keeps the session: Linux compares priorities
    within one (autogroup), and the recorder's is to be lower than that of the pipeline.
    """
    os.setpgid(0, 0)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
