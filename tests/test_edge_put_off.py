"""A flight with faults that this machine is too slow for: it comes later, and so do they."""

import os
import signal
import time
from pathlib import Path

from edge.clock import VirtualClock
from edge.faults.fault import parse_fault
from edge.operations.killer import Killer
from edge.operations.playback import Playback, Program
from edge.recording.controls import Command
from edge.recording.pacing import PutOff
from edge.recording.reader import open_recording
from edge.recording.synthetic import write_synthetic_flight
from edge.sources.synthetic import SyntheticFlight
from edge.transport.sockets import Subscriber

S = 1_000_000_000
BEGIN_NS = S
PATIENCE_S = 30.0
STALL_S = 0.3


def test_the_pipeline_is_killed_so_much_later_as_the_flight_is_put_off() -> None:
    clock, looks = VirtualClock(BEGIN_NS), []
    faults = [parse_fault("process:kill@1s"), parse_fault("process:kill@3s")]
    killer = Killer(faults, 2.0, clock, lambda: looks.append(clock.now_ns() - BEGIN_NS) or {})
    for tenth in range(40):
        clock.advance_to(BEGIN_NS + tenth * S // 10)
        if tenth == 12:
            killer.put_off(BEGIN_NS + S, 2 * S)
        killer.check()
    assert looks == [S // 2, 3 * S + S // 2]


def test_a_player_that_was_held_up_says_by_how_much(tmp_path: Path) -> None:
    path, endpoint = tmp_path / "flight.mcap", f"ipc://{tmp_path}/radio"
    write_synthetic_flight(path, SyntheticFlight(7, 1.0, radio_rate_hz=50.0), 0.5, lambda _: None)
    program = Program(recording=open_recording(path), endpoints={"radio": endpoint}, laps=None)
    put_offs: list[PutOff] = []
    deadline_s = time.monotonic() + PATIENCE_S
    with Playback(program, lambda _: None) as playback, Subscriber(endpoint):
        playback.begin()
        while playback.begin_ns is None:
            assert time.monotonic() < deadline_s
            playback.poll()
        os.kill(playback._process.pid, signal.SIGSTOP)
        time.sleep(STALL_S)
        os.kill(playback._process.pid, signal.SIGCONT)
        while sum(late.by_ns for late in put_offs) < STALL_S * S / 2:
            assert time.monotonic() < deadline_s
            playback.poll()
            put_offs += playback.take_put_offs()
        playback.ask(Command.STOP)
        while playback.played is None:
            assert time.monotonic() < deadline_s
            playback.poll()
    put_offs += playback.take_put_offs()
    assert sum(late.by_ns for late in put_offs) == playback.played.put_off_ns
    assert all(late.since_ns >= playback.begin_ns for late in put_offs)
