"""The state of a run on disk: what a resumed run needs to end with the same bits. Tensors and JSON, no code."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor

from models.errors import InputError
from models.nets.checkpoint import load_weights, read_tensors, write_tensors
from models.nets.multimodal import MultimodalNet
from trainer.config import TrainConfig
from trainer.training.early_stop import Best

RESUME = "resume.safetensors"

_NETWORK, _OPTIMIZER = "network.", "optimizer."
_POSITION = "position"
_FREE = ("out", "description", "tensorboard", "qat")  # fields that may change between a run and its resumption


class Position(msgspec.Struct, frozen=True, kw_only=True):
    """Where a run stands, besides its tensors."""

    epoch: int
    """Epochs behind."""
    method: dict[str, Any]
    config: dict[str, Any]
    best: Best


@dataclass(frozen=True, kw_only=True, slots=True)
class Movable:
    """What the file's tensors are loaded into."""

    network: MultimodalNet
    optimizer: torch.optim.Optimizer


def save_state(path: Path, parts: Movable, position: Position) -> None:
    """Write network, optimizer and position; the file appears whole or not at all.

    Raises:
        RecordingError: the disk is full, or gone.
    """
    tensors = {_NETWORK + name: value.contiguous() for name, value in parts.network.state_dict().items()}
    for index, values in parts.optimizer.state_dict()["state"].items():
        tensors |= {f"{_OPTIMIZER}{index}.{name}": value.contiguous() for name, value in values.items()}
    write_tensors(path, tensors, {_POSITION: msgspec.json.encode(position).decode()})


def load_state(path: Path, parts: Movable, config: TrainConfig) -> Position:
    """Load network and optimizer, and return where the run stands.

    Raises:
        InputError: the file is absent, damaged, or of a run with another configuration.
    """
    tensors, metadata = read_tensors(path)
    try:
        position = msgspec.json.decode(metadata.get(_POSITION, ""), type=Position)
    except msgspec.DecodeError as error:
        raise InputError(f"{path}: not the state of a training run: start without --resume") from error
    now = as_json(config)
    differing = sorted(name for name in now if name not in _FREE and now[name] != position.config.get(name))
    if differing:
        raise InputError(
            f"{path}: from a run with other {', '.join(differing)}: restore them, or start without --resume"
        )
    weights = {name.removeprefix(_NETWORK): value for name, value in tensors.items() if name.startswith(_NETWORK)}
    load_weights(parts.network, weights, str(path))
    moments: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith(_OPTIMIZER):
            index, key = name.removeprefix(_OPTIMIZER).split(".")
            moments.setdefault(int(index), {})[key] = value
    parts.optimizer.load_state_dict({**parts.optimizer.state_dict(), "state": moments})
    return position


def as_json(config: TrainConfig) -> dict[str, Any]:
    """Return a configuration as a JSON reader would see it."""
    return dict(msgspec.json.decode(msgspec.json.encode(config)))
