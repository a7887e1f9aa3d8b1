"""Early stop: training ends when the validation loss has not fallen for a while, with the weights of its best epoch.

Weights so chosen fit the examples that chose them: what an evaluation finds on the same examples is optimistic, and
says nothing against methods that had no such choice. Off unless asked for.
"""

import math
from collections.abc import Iterator
from itertools import islice

import msgspec
import torch
from torch.nn.functional import cross_entropy

from models.nets.multimodal import MultimodalNet
from trainer.data.examples import DataSet, Example, prepare, presence
from trainer.methods.method import JudgedLate, Method

_CHUNK = 64


class EarlyStopConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When to give up."""

    patience_epochs: int
    """Epochs without a lower validation loss after which training ends."""

    def __post_init__(self) -> None:
        if self.patience_epochs < 1:
            raise ValueError(f"patience_epochs is {self.patience_epochs}: expected 1 or more")


class Best(msgspec.Struct, kw_only=True):
    """The best epoch so far."""

    loss: float | None = None
    epoch: int = -1

    def take(self, epoch: int, loss: float) -> bool:
        """Return whether an epoch is the best so far, and remember it if so."""
        is_better = self.loss is None or loss < self.loss
        if is_better:
            self.loss, self.epoch = loss, epoch
        return is_better

    def waited(self, epoch: int) -> int:
        """Return how many epochs have passed since the best one."""
        return 0 if self.loss is None else epoch - self.epoch


def first_judged_epoch(method: Method) -> int:
    """Return the epoch from which the validation loss may end a run: the method's own, else the first."""
    return method.first_judged_epoch if isinstance(method, JudgedLate) else 0


@torch.no_grad()
def validation_loss(network: MultimodalNet, data: DataSet) -> float:
    """Return the mean cross-entropy of the fused answer; the network is left in evaluation mode."""
    network.eval()
    device = next(network.parameters()).device
    total, count = 0.0, 0
    for chunk in _chunks(data.validation_examples()):
        inputs, labels = prepare(chunk, network.spec)
        tensors = {name: torch.from_numpy(stack).to(device) for name, stack in inputs.items()}
        answer = network(tensors, torch.from_numpy(presence(chunk, network.spec)).to(device))
        total += float(cross_entropy(answer.logits, torch.from_numpy(labels).to(device), reduction="sum"))
        count += len(chunk)
    return total / count if count else math.inf


def _chunks(examples: Iterator[Example]) -> Iterator[list[Example]]:
    while chunk := list(islice(examples, _CHUNK)):
        yield chunk
