"""Keys of a live replay: read without Enter from a real terminal, which gets back what it was."""

import os
import pty
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from edge.operations.keyboard import NO_TERMINAL, Keyboard
from edge.operations.playback import Position
from edge.operations.replay_keys import ReplayKeys
from edge.recording.controls import Command
from edge.recording.synthetic import write_synthetic_flight
from edge.sources.synthetic import SyntheticFlight
from models.bundle import shipped_bundle

PATIENCE_S = 60.0


class Typist(Keyboard):
    """A keyboard on which somebody typed."""

    def __init__(self, typed: str) -> None:
        super().__init__(NO_TERMINAL)
        self._typed = typed

    def pressed(self) -> str:
        return self._typed

    @property
    def is_there(self) -> bool:
        return True


def test_each_key_asks_for_what_the_line_below_the_view_says() -> None:
    asked: list[Command] = []
    keys = ReplayKeys(Typist(" .+-qx"), asked.append, is_timed=False, has_rate=True)
    keys.look()
    assert asked == [Command.PAUSE, Command.STEP, Command.FASTER, Command.SLOWER, Command.STOP]
    line = keys.caption(Position(recorded_ns=12_300_000_000, rate=0.5, is_paused=False), 60.0)
    assert line == "12.3 s of 60.0 s, at 0.5 x   space pause  . step  + faster  - slower  q quit"
    paused = Position(recorded_ns=0, rate=None, is_paused=True)
    assert keys.caption(paused, float("inf")).startswith("0.0 s, paused   space")


@pytest.mark.parametrize(
    ("is_timed", "has_rate", "expected"),
    [(True, True, [Command.STOP]), (False, False, [Command.PAUSE, Command.STEP, Command.STOP])],
)
def test_keys_that_a_flight_could_not_obey_do_nothing(is_timed: bool, has_rate: bool, expected: list[Command]) -> None:
    asked: list[Command] = []
    ReplayKeys(Typist(" .+-q"), asked.append, is_timed=is_timed, has_rate=has_rate).look()
    assert asked == expected


def test_what_is_no_terminal_has_no_keys_and_no_words_about_them(tmp_path: Path) -> None:
    with (tmp_path / "typed").open("w+") as file, Keyboard(file.fileno()) as keyboard:
        assert (keyboard.is_there, keyboard.pressed()) == (False, "")
        keys = ReplayKeys(keyboard, lambda _: None, is_timed=False, has_rate=True)
        assert keys.caption(Position(recorded_ns=0, rate=1.0, is_paused=False), 2.0) == "0.0 s of 2.0 s, at 1 x"


def test_a_terminal_of_somebody_else_is_left_alone() -> None:
    """A process in the background would be stopped where it touched the terminal."""
    parent, child = pty.openpty()
    try:
        with Keyboard(child) as keyboard:
            os.write(parent, b"q\n")
            assert (keyboard.is_there, keyboard.pressed()) == (False, "")
    finally:
        os.close(parent)
        os.close(child)


class Terminal:
    """A program on a terminal of its own."""

    def __init__(self, program: str, *arguments: str) -> None:
        self.said = b""
        self._ours, self._theirs = pty.openpty()
        self.before = termios.tcgetattr(self._theirs)
        self.program = subprocess.Popen(
            [sys.executable, "-c", _ON_A_TERMINAL + program, *arguments],
            stdin=self._theirs,
            stdout=self._theirs,
            stderr=self._theirs,
            start_new_session=True,
        )
        os.set_blocking(self._ours, False)

    def hear(self, text: bytes, since: int = 0) -> int:
        """Wait until it has said something; return the place behind it."""
        deadline_s = time.monotonic() + PATIENCE_S
        while text not in self.said[since:]:
            assert time.monotonic() < deadline_s, self.said
            self._read()
        return self.said.index(text, since) + len(text)

    def press(self, keys: bytes) -> None:
        os.write(self._ours, keys)

    def end(self) -> int:
        """Wait for its end; return the exit code."""
        deadline_s = time.monotonic() + PATIENCE_S
        while self.program.poll() is None:
            assert time.monotonic() < deadline_s, self.said
            self._read()
        self._read()
        return self.program.wait()

    def modes(self) -> list:
        return termios.tcgetattr(self._theirs)

    def close(self) -> None:
        self.program.kill()
        self.program.wait()
        os.close(self._ours)
        os.close(self._theirs)

    def _read(self) -> None:
        try:
            self.said += os.read(self._ours, 65536)
        except BlockingIOError:
            time.sleep(0.01)
        except OSError:
            return


_ON_A_TERMINAL = """
import fcntl, signal, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a build in the background has switched off
"""
_UAV_EDGE = """
from edge.cli import main
sys.exit(main(sys.argv[1:]))
"""
_KEYS_ALONE = """
import threading, types
from edge.operations.keyboard import Keyboard
from models.command_line import run_command_line

def run(args):
    with Keyboard():
        print("listening", flush=True)
        threading.Event().wait()

sys.modules["keys"] = types.SimpleNamespace(configure=lambda parser: None, run=run)
sys.exit(run_command_line("keys", "", {"keys": ("keys", "")}, ["keys"]))
"""
"""A command that does nothing but read keys."""


@pytest.fixture(scope="module")
def flight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("flight") / "flight.mcap"
    write_synthetic_flight(path, SyntheticFlight(7, 1.0), 0.5, lambda _: None)
    return path


@pytest.fixture
def terminal(flight: Path):
    opened = Terminal(_UAV_EDGE, "replay", str(flight), "--bundle", str(shipped_bundle()), "--loop")
    yield opened
    opened.close()


@pytest.mark.slow
def test_keys_pause_step_and_end_a_replay_and_the_terminal_is_as_before(terminal: Terminal) -> None:
    terminal.hear(b"at 1 x")
    assert terminal.modes() != terminal.before
    terminal.press(b"-")
    place = terminal.hear(b"at 0.5 x")
    terminal.press(b" ")
    place = terminal.hear(b"paused", place)
    terminal.press(b".")
    terminal.press(b" +")
    terminal.hear(b"at 1 x", place)
    terminal.press(b"q")
    assert terminal.end() == 0, terminal.said
    terminal.hear(b"not to its end")
    assert terminal.modes() == terminal.before


def type_ctrl_c(terminal: Terminal) -> None:
    """Type Ctrl-C, and before it what must not leave the terminal as it is: Ctrl-Z and Ctrl-\\."""
    terminal.press(b"\x1a\x1c\x03")


def ask_politely(terminal: Terminal) -> None:
    terminal.program.terminate()


ENDS = [pytest.param(type_ctrl_c, 130, id="ctrl-c"), pytest.param(ask_politely, 143, id="sigterm")]


@pytest.mark.parametrize(("end", "code"), ENDS)
def test_whoever_ends_a_command_that_reads_keys_gets_the_terminal_back(
    end: Callable[[Terminal], None], code: int
) -> None:
    terminal = Terminal(_KEYS_ALONE)
    try:
        terminal.hear(b"listening")
        assert terminal.modes() != terminal.before
        end(terminal)
        assert terminal.end() == code, terminal.said
        assert terminal.modes() == terminal.before
    finally:
        terminal.close()


@pytest.mark.slow
@pytest.mark.parametrize(("end", "code"), ENDS)
def test_whoever_ends_a_replay_gets_the_terminal_back(
    terminal: Terminal, end: Callable[[Terminal], None], code: int
) -> None:
    terminal.hear(b"at 1 x")
    end(terminal)
    assert terminal.end() == code, terminal.said
    assert terminal.modes() == terminal.before
