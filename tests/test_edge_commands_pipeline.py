"""The pipeline's process."""

import argparse
import gc
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.commands import pipeline as command
from edge.config import FlightConfig, StreamConfig
from models.bundle import shipped_bundle
from models.errors import ConfigError
from models.schema import dump_yaml


def test_what_is_loaded_at_the_start_is_kept_from_the_garbage_collector(tmp_path: Path, monkeypatch) -> None:
    stop = threading.Event()
    stop.set()
    monkeypatch.setattr("edge.operations.signals.stop_on_signals", lambda: stop)
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    radio = StreamConfig(modality="iq", endpoint=f"ipc://{tmp_path}/radio", rate_hz=100.0)
    config = FlightConfig(bundle=str(shipped_bundle()), streams={"radio": radio}, results=f"ipc://{tmp_path}/results")
    flight = tmp_path / "flight.yaml"
    flight.write_bytes(dump_yaml(config))
    before = gc.get_freeze_count()
    try:
        assert command.run(argparse.Namespace(config=flight, without_gpu=False, faults=None)) == 0
        assert gc.get_freeze_count() > before + 10_000
    finally:
        gc.unfreeze()


def deployment_with_options(folder: Path) -> Path:
    """Write a deployment whose options of plans name something that is none, and return its path."""
    radio = StreamConfig(modality="iq", endpoint=f"ipc://{folder}/radio", rate_hz=100.0)
    (folder / "plan.yaml").write_text("builder: {fp16: true}\n")
    config = FlightConfig(
        bundle=str(shipped_bundle()),
        streams={"radio": radio},
        results=f"ipc://{folder}/results",
        plans=str(folder / "plans"),
        plan_options=str(folder / "plan.yaml"),
    )
    flight = folder / "flight.yaml"
    flight.write_bytes(dump_yaml(config))
    return flight


@pytest.fixture
def at_once(monkeypatch) -> Iterator[None]:
    """Let a flight end as soon as it has begun."""
    stop = threading.Event()
    stop.set()
    monkeypatch.setattr("edge.operations.signals.stop_on_signals", lambda: stop)
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("at_once")
def test_options_of_plans_that_are_none_stop_the_start(tmp_path: Path) -> None:
    flight = deployment_with_options(tmp_path)
    with pytest.raises(ConfigError, match=r"plan\.yaml:1: builder\.fp16: unknown key"):
        command.run(argparse.Namespace(config=flight, without_gpu=False, faults=None))


@pytest.mark.usefixtures("at_once")
def test_after_a_crash_they_stop_nothing(tmp_path: Path) -> None:
    flight = deployment_with_options(tmp_path)
    assert command.run(argparse.Namespace(config=flight, without_gpu=True, faults=None)) == 0
