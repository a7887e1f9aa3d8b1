"""The pipeline's process."""

import argparse
import gc
import threading
from pathlib import Path

from edge.commands import pipeline as command
from edge.config import FlightConfig, StreamConfig
from models.bundle import shipped_bundle
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
        assert command.run(argparse.Namespace(config=flight, without_gpu=False)) == 0
        assert gc.get_freeze_count() > before + 10_000
    finally:
        gc.unfreeze()
