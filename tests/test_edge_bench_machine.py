"""What the benchmark says of the machine: its noise, its processor time, its memory, its name."""

import os
import time

import msgspec
import numpy as np
import pytest

from edge.bench import machine
from edge.bench.machine import NoiseMeter, cpu_seconds, describe_machine, rss_mib
from edge.operations.memory import keep_freed_memory


def test_own_work_is_not_called_noise() -> None:
    knows_us, does_not = NoiseMeter(), NoiseMeter()
    assert knows_us.other_percent is None
    knows_us.start([os.getpid()])
    does_not.start([])
    burn(0.2)
    knows_us.stop([os.getpid()])
    does_not.stop([])
    assert 0.0 <= knows_us.other_percent < does_not.other_percent <= 100.0


def burn(seconds: float) -> None:
    end_s = time.process_time() + seconds
    while time.process_time() < end_s:
        np.linalg.norm(np.ones(1000))


def test_the_processor_time_of_a_process_is_what_its_threads_used() -> None:
    before_s, own_s = cpu_seconds(os.getpid()), time.process_time()
    burn(0.1)
    assert cpu_seconds(os.getpid()) - before_s == pytest.approx(time.process_time() - own_s, abs=0.05)


def test_the_processor_time_is_known_without_the_counters_of_the_scheduler(monkeypatch) -> None:
    monkeypatch.setattr(machine.Path, "glob", lambda *_: iter(()))
    before_s, own_s = cpu_seconds(os.getpid()), time.process_time()
    burn(0.1)
    assert cpu_seconds(os.getpid()) - before_s == pytest.approx(time.process_time() - own_s, abs=0.05)


def test_memory_in_use_is_seen() -> None:
    before = rss_mib(os.getpid())
    held = np.ones(8 << 20, np.float32)
    assert rss_mib(os.getpid()) - before > 24
    assert held[-1] == 1.0


def test_a_process_that_has_ended_costs_nothing() -> None:
    assert (rss_mib(1 << 30), cpu_seconds(1 << 30)) == (0.0, 0.0)


def test_the_c_library_is_told_to_keep_freed_memory() -> None:
    assert keep_freed_memory()


def test_the_machine_is_named() -> None:
    described = describe_machine()
    assert described.cpu
    assert described.cores >= 1


def test_milliseconds_are_comparable_on_the_same_machine_in_the_same_power_mode_alone() -> None:
    here = describe_machine()
    saving = msgspec.structs.replace(here, board={"power_mode": "15W"})
    assert here.fingerprint == msgspec.structs.replace(here, kernel="other").fingerprint
    assert here.fingerprint != saving.fingerprint
