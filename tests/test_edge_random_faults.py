"""Random sequences of faults, and a long flight: subsets of what `tests/random_faults.py` and `long_flight.py` fly."""

import tracemalloc

import msgspec
import pytest
import random_faults
from faulty_flights import engines, fly
from long_flight import fly_long, leaked_bytes

from edge.faults.fault import parse_fault
from edge.faults.injector import FaultPlan
from edge.pipeline import gate
from edge.pipeline.accounting import Ledger
from edge.pipeline.answer import FusionHead
from edge.pipeline.scheduler import Scheduler

SEQUENCES = 8
PER_BLOCK = 4
LEAKED_BYTES = 10.0
"""A message, of Python's memory: one number kept of each would be 36; a frame more in flight at the end makes 2."""


@pytest.mark.parametrize("block", range(SEQUENCES // PER_BLOCK))
def test_random_faults_break_no_promise(block):
    seeds = range(block * PER_BLOCK, (block + 1) * PER_BLOCK)
    broken = {seed: lines for seed in seeds if (lines := random_faults.broken(seed))}
    assert not broken, [random_faults.command(seed, random_faults.shortened(seed)) for seed in broken]


def test_where_nothing_is_answered_the_next_status_tells_of_a_fault():
    """A camera gets stuck while the radio is off, and the last answer holds for a second."""
    assert random_faults.broken(5283) == []


def test_a_repeated_sound_frame_may_stand_for_a_wrong_one_until_it_is_called_frozen():
    assert random_faults.broken(100_092) == []


@pytest.mark.slow
def test_many_random_faults_break_no_promise():
    assert random_faults.main(["200", "--first", "100000"]) == 0


def test_sequences_are_made_of_every_fault_and_of_their_seed_alone():
    cases = [random_faults.sequence_of(seed) for seed in range(200)]
    assert cases == [random_faults.sequence_of(seed) for seed in range(200)]
    kinds = {fault.kind for case in cases for fault in case.faults}
    assert kinds == {"off", "stuck", "garbage", "wrong", "slow", "delayed", "intermittent", "jump", "loss"}


@pytest.mark.slow
def test_a_sequence_that_breaks_a_promise_is_told_with_the_shortest_command(monkeypatch, capsys):
    """The scheduler is made to forget a message that comes from a stream whose last one was refused."""
    receive = Scheduler.receive

    def forgetful(self, stream, message, now_ns):
        receive(self, stream, message, now_ns)
        entry = self._streams[stream]
        if entry.masked == "frozen" and entry.waiting is not None:
            entry.waiting = None

    monkeypatch.setattr(Scheduler, "receive", forgetful)
    seed = next(n for n in range(100) if {f.kind for f in random_faults.sequence_of(n).faults} >= {"stuck", "off"})
    assert random_faults.main(["--seed", str(seed)]) == 1
    assert "I1 violated" in capsys.readouterr().out
    needed = random_faults.shortened(seed)
    assert len(needed) == 1
    command = random_faults.command(seed, needed)
    assert command == f"python tests/random_faults.py --seed {seed} --fault {needed[0]}"
    assert random_faults.main(command.split()[2:]) == 1
    monkeypatch.undo()
    assert random_faults.main(command.split()[2:]) == 0


def broken(*faults: str) -> str:
    """Return what a flight of 10 s breaks, as text."""
    plan = FaultPlan(faults=tuple(parse_fault(text) for text in faults))
    return "\n".join(fly(plan, seconds=10.0).broken())


def test_a_pipeline_that_counts_a_message_twice_is_found_out(monkeypatch):
    def twice(self, reason):
        self.rejected[reason.value] += 2

    monkeypatch.setattr(Ledger, "reject", twice)
    assert "I1 violated" in broken("radio:stuck@2s+1s")


def test_a_pipeline_that_fuses_what_is_too_old_is_found_out(monkeypatch):
    receive, init = Scheduler.__init__, FusionHead.__init__

    def patient(self, modalities, streams, config, *rest):
        receive(self, modalities, streams, msgspec.structs.replace(config, max_age_ms=5000.0), *rest)

    monkeypatch.setattr(Scheduler, "__init__", patient)
    monkeypatch.setattr(FusionHead, "__init__", lambda self, *parts: init(self, *parts[:-1], 5000.0))
    assert "I2 violated" in broken("camera:delayed@2s+3s", "radio:off@2s+3s")


def test_a_gate_that_lets_frozen_frames_through_is_found_out(monkeypatch):
    monkeypatch.setattr(gate, "FROZEN_FRAMES", 1_000_000)
    assert "I3 violated" in broken("camera:stuck@2s+3s")


def test_a_scheduler_that_does_not_forgive_is_found_out(monkeypatch):
    complete = Scheduler.complete

    def resentful(self, stream, outcome, now_ns):
        pairing = complete(self, stream, outcome, now_ns)
        if self._streams[stream].ledger.rejected:
            self._streams[stream].masked = "black"
        return pairing

    monkeypatch.setattr(Scheduler, "complete", resentful)
    assert "I4 violated" in broken("radio:stuck@2s+3s")


def traced_flight(minutes: int) -> tuple[list, list]:
    """Return what Python held at the end of each minute of a flight, and what the flight broke."""
    engines()
    tracemalloc.start()
    try:
        return fly_long(minutes / 60, minutes)
    finally:
        tracemalloc.stop()


@pytest.mark.slow
def test_hours_of_flight_leave_nothing_behind():
    """Three minutes here, ten hours by the script. At the end of a minute no fault holds messages back."""
    taken, broken = traced_flight(minutes=3)
    assert broken == []
    assert len(taken) == 3
    assert leaked_bytes(taken, "traced_bytes") <= LEAKED_BYTES
    assert taken[-1].files == taken[0].files


@pytest.mark.slow
def test_a_leak_of_a_number_a_message_is_found(monkeypatch):
    """As if the ledger kept the time of each message."""
    kept = []
    note = Ledger.note_sequence

    def hoarding(self, header):
        kept.append(header.capture_ns + 0)
        return note(self, header)

    monkeypatch.setattr(Ledger, "note_sequence", hoarding)
    taken, _ = traced_flight(minutes=2)
    assert leaked_bytes(taken, "traced_bytes") > 2 * LEAKED_BYTES
