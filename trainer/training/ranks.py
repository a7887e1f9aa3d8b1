"""Several processes that train one network: torchrun starts them, each computes its share of every batch.

There is no wrapper around the network: branches that freeze and thaw, and gradients taken apart from `backward`, go
past one. Gradients are averaged by hand instead, in one flat vector. Where there is one process only, nothing happens.
"""

import datetime
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from models.errors import ConfigError

_PATIENCE = datetime.timedelta(hours=2)  # the others wait while the first rank evaluates


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Which of how many processes this is."""

    rank: int = 0
    ranks: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that writes, shows and evaluates."""
        return self.rank == 0

    def share_of(self, batch: int) -> int:
        """Return how many examples of a global batch are this process's.

        Raises:
            ConfigError: the processes cannot share it equally.
        """
        if batch % self.ranks or batch // self.ranks < 2:
            raise ConfigError(
                f"batch is {batch}, for {self.ranks} processes: expected a multiple of {self.ranks} that leaves each 2"
                " or more: change batch, or --nproc-per-node"
            )
        return batch // self.ranks


ALONE = Place()
"""The only process there is."""


@contextmanager
def joined_ranks(device: str) -> Iterator[Place]:
    """Join the processes that torchrun started, or be the only one; leave them at the end.

    Args:
        device: `cuda` or `cpu`; each process on a machine gets a GPU of its own.
    """
    if not dist.is_torchelastic_launched():
        yield ALONE
        return
    if device == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if device == "cuda" else "gloo", timeout=_PATIENCE)
    try:
        yield Place(rank=dist.get_rank(), ranks=dist.get_world_size())
    finally:
        dist.destroy_process_group()


def average(tensors: Sequence[Tensor | None]) -> None:
    """Replace tensors by their mean over all processes; None stays None, which it must be everywhere."""
    if not dist.is_initialized():
        return
    present = [one for one in tensors if one is not None]
    if not present:
        return
    flat = torch.cat([one.detach().reshape(-1).float() for one in present])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    for one, mean in zip(present, torch.split(flat, [one.numel() for one in present]), strict=True):
        one.detach().copy_(mean.view_as(one))


def average_gradients(network: nn.Module) -> None:
    """Give every process the mean gradient; one that is the mean already stays."""
    average([parameter.grad for parameter in network.parameters()])


def average_statistics(network: nn.Module) -> None:
    """Give every process the mean of what normalisation has counted on its share of the data."""
    average([buffer for buffer in network.buffers() if buffer.is_floating_point()])


def from_first(value: Any) -> Any:
    """Return the first process's value, of JSON types, in every process."""
    if not dist.is_initialized():
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]
