"""A trained network on disk: one safetensors file, its header saying what the tensors are. Training writes it, export
reads it. Nothing in it is executed: no pickle.
"""

import math
import os
from dataclasses import dataclass
from pathlib import Path

import msgspec
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from models.errors import InputError, RecordingError
from models.nets.multimodal import MultimodalNet
from models.nets.sizes import BranchSizes
from models.spec import ModelSpec

SCHEMA_VERSION = 1
_HEADER = "checkpoint"
_NETWORK = "network."
_GOLDEN = "golden."


class CheckpointHeader(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a checkpoint is."""

    schema: int = SCHEMA_VERSION
    spec: ModelSpec
    sizes: dict[str, BranchSizes]
    description: str
    licence: str
    """Terms that the training data leave for the weights."""
    reproduce: tuple[str, ...]
    """Commands that train it again."""
    metrics: dict[str, float]
    tools: dict[str, str]
    temperature: float = 1.0
    """Divides the fused logits before they become probabilities; fitted on validation examples."""

    def __post_init__(self) -> None:
        if self.schema != SCHEMA_VERSION:
            raise ValueError(f"schema {self.schema}: this release reads {SCHEMA_VERSION}, train again")
        if not 0 < self.temperature < math.inf:
            raise ValueError(f"temperature is {self.temperature}: expected a positive number")


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    """A network with what is known about it."""

    header: CheckpointHeader
    network: MultimodalNet
    golden: dict[str, Tensor]
    """A few preprocessed inputs per modality, for the bundle's self-test."""


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint; it appears whole or not at all."""
    tensors = {_NETWORK + name: value.contiguous() for name, value in checkpoint.network.state_dict().items()}
    tensors |= {_GOLDEN + name: value.contiguous() for name, value in checkpoint.golden.items()}
    write_tensors(path, tensors, {_HEADER: msgspec.json.encode(checkpoint.header).decode()})


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint; the network is in evaluation mode.

    Raises:
        InputError: absent, damaged, of another schema, or its tensors do not fit its own spec.
    """
    tensors, metadata = read_tensors(path)
    try:
        header = msgspec.json.decode(metadata.get(_HEADER, ""), type=CheckpointHeader)
    except msgspec.DecodeError as error:
        raise InputError(f"{path}: not a checkpoint of this release ({error}): train again") from error
    network = MultimodalNet(header.spec, header.sizes)
    state = {name.removeprefix(_NETWORK): value for name, value in tensors.items() if name.startswith(_NETWORK)}
    load_weights(network, state, str(path))
    golden = {name.removeprefix(_GOLDEN): value for name, value in tensors.items() if name.startswith(_GOLDEN)}
    return Checkpoint(header=header, network=network.eval(), golden=golden)


def load_weights(network: MultimodalNet, state: dict[str, Tensor], where: str) -> None:
    """Load tensors into a network; InputError names the ones that do not fit or are not finite."""
    own = network.state_dict()
    expected = {name: tuple(value.shape) for name, value in own.items()}
    found = {name: tuple(value.shape) for name, value in state.items()}
    differing = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
    if differing:
        name = differing[0]
        raise InputError(
            f"{where}: of another network: {name} is {found.get(name, 'absent')}, expected"
            f" {expected.get(name, 'absent')} ({len(differing)} differ): use the spec and sizes of its training"
        )
    broken = sorted(name for name, value in state.items() if not bool(torch.isfinite(value).all()))
    if broken:
        raise InputError(f"{where}: weights that are not finite: {', '.join(broken[:5])}: train again")
    network.load_state_dict(state)


def write_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write a safetensors file by renaming a finished one, which is on the disk, into place: what was there before
    stays until then.

    Raises:
        RecordingError: the disk is full, or gone.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, partial, metadata)
        with partial.open("rb") as stream:
            os.fsync(stream.fileno())
        partial.replace(path)
    except (SafetensorError, OSError) as error:
        raise RecordingError(
            f"{path}: cannot be written ({error}): make room; what was saved before is whole"
        ) from error
    finally:
        partial.unlink(missing_ok=True)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read a safetensors file whole: (tensors, metadata).

    Raises:
        InputError: absent or damaged.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such checkpoint: name the .safetensors file that uav-train fit wrote")
    try:
        with safe_open(path, framework="pt") as stored:
            return {name: stored.get_tensor(name) for name in stored.keys()}, stored.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: damaged or not safetensors ({error}): copy it again") from error
