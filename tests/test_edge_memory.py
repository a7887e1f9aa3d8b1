"""Freed memory stays with the process: what a frame was decoded into serves the next one."""

import subprocess
import sys
import threading

import pytest

from edge.commands import pipeline
from edge.operations import memory
from models.errors import ConfigError

PROGRAM = """
import resource, sys, threading
import numpy as np
from edge.operations.memory import keep_freed_memory

def decode():
    kept = [np.ones((720, 1280, 3), np.uint8) for _ in range(3)]

def faults():
    decode()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        decode()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)

if "keep" in sys.argv:
    assert keep_freed_memory()
faults()
thread = threading.Thread(target=faults)
thread.start()
thread.join()
"""
PAGES_OF_A_FRAME = 675


def faults_of(*argv: str) -> list[int]:
    done = subprocess.run([sys.executable, "-c", PROGRAM, *argv], capture_output=True, text=True, check=True)
    return [int(line) for line in done.stdout.split()]


def test_frames_one_after_the_other_take_no_new_memory_in_any_thread() -> None:
    assert max(faults_of("keep")) < PAGES_OF_A_FRAME


def test_without_it_every_frame_takes_new_memory() -> None:
    assert max(faults_of()) > 5 * PAGES_OF_A_FRAME


def test_a_c_library_that_cannot_be_told_is_left_alone(monkeypatch) -> None:
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda _: object())
    assert not memory.keep_freed_memory()


def test_the_pipeline_keeps_its_memory_before_it_reads_anything(tmp_path, monkeypatch) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(memory, "keep_freed_memory", lambda: asked.append(True))
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    monkeypatch.setattr("edge.operations.signals.stop_on_signals", threading.Event)
    options = pipeline.argparse.Namespace(config=tmp_path / "none.yaml", without_gpu=False)
    with pytest.raises(ConfigError):
        pipeline.run(options)
    assert asked == [True]
