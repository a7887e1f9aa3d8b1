"""What a training method is: it decides which parameters learn from what; the loop does all the rest."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """Preprocessed examples as tensors."""

    inputs: dict[str, Tensor]
    """Per modality, (batch, *input_shape)."""
    labels: Tensor
    """(batch,), int64."""
    mask: Tensor
    """(batch, M): modality dropout; every row has at least one 1."""
    outliers: dict[str, Tensor]
    """Per modality, (outliers, *input_shape): inputs to be answered with doubt; may be empty."""

    def to(self, device: torch.device) -> "Batch":
        """Return the batch on a device; copies to a GPU go on while the CPU works."""
        if device.type == "cpu":
            return self

        def moved(one: Tensor) -> Tensor:
            return one.pin_memory().to(device, non_blocking=True)

        return Batch(
            inputs={name: moved(one) for name, one in self.inputs.items()},
            labels=moved(self.labels),
            mask=moved(self.mask),
            outliers={name: moved(one) for name, one in self.outliers.items()},
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class StepReport:
    """What one step saw, for the progress display and the log."""

    losses: dict[str, float]
    """`fused` and each modality."""
    accuracies: dict[str, float]
    """As above, on this batch."""
    cosines: dict[str, float] = field(default_factory=dict)
    """Of the fused and the branch's own gradient on its encoder, for branches whose gradients the method compares."""


ProbeBatches = Callable[[int], Sequence[Batch]]
"""Returns as many batches as asked for, the same ones every time."""


class Method(Protocol):
    """Any method trains any network; the loop calls `begin_epoch`, then `backward` for each batch."""

    @property
    def epochs(self) -> int:
        """How many epochs the loop runs; those that train only a part may count as less."""

    def begin_epoch(self, epoch: int, probe: ProbeBatches) -> str:
        """Set the network to train what this epoch trains, and return the stage's name."""

    def backward(self, batch: Batch) -> StepReport:
        """Leave this batch's gradients in the parameters that are to move, None in all others."""

    def state(self) -> dict[str, Any]:
        """Return what a resumed run needs besides weights, as JSON types."""

    def restore(self, state: dict[str, Any]) -> None:
        """Take up what `state` returned."""


@runtime_checkable
class Budgeted(Protocol):
    """A method whose epochs are not all worth the same."""

    def spent(self, epochs: float) -> float:
        """Return the share of the budget of updates, 0 to 1, that the first `epochs` epochs spend."""


@runtime_checkable
class JudgedLate(Protocol):
    """A method whose fused answer tells nothing of the run's end before a certain epoch."""

    @property
    def first_judged_epoch(self) -> int:
        """The epoch from which the validation loss may end a run."""
