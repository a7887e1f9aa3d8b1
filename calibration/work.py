"""The work folder: what the steps of a calibration leave for the next, each file whole or not there at all."""

import os
from pathlib import Path

from models.errors import ConfigError

RANGES = "ranges.npz"
SENSITIVITY = "sensitivity.json"


def write_whole(path: Path, data: bytes) -> None:
    """Write a file by renaming a finished one, which is on the disk, into place; folders are made as needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def graph_file(role: str, precision: str, target: str = "any", batch: str = "one") -> str:
    """Return a graph's path within the work folder and the bundle."""
    of_target = "" if target == "any" else f"-{target}"
    return f"onnx/{role}.{precision}{of_target}{'' if batch == 'one' else '-any-batch'}.onnx"


def read_step(folder: Path, name: str, command: str) -> bytes:
    """Return what an earlier step left in the work folder.

    Raises:
        ConfigError: it is not there.
    """
    path = folder / name
    if not path.is_file():
        raise ConfigError(f"{path}: no such file: run uav-calibrate {command} with --work {folder} first")
    return path.read_bytes()
