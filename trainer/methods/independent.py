"""Independent training: each branch on its own loss alone, as if the others did not exist.

    loss = sum_m L_m

One run holds each modality trained alone, and, by the forms of fusion that only combine answers (`poe`, `mean`,
`entropy`), late fusion. A form with weights learns beside, from features and logits that it cannot move. The one thing
that branches share is the loop's limit on the length of the whole gradient.
"""

from typing import Any

import msgspec

from models.nets.multimodal import MultimodalNet
from trainer.methods.losses import compute_losses
from trainer.methods.method import Batch, ProbeBatches, StepReport


class IndependentConfig(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="independent"
):
    """Independent training has no knobs."""


class Independent:
    """Every branch for itself, all in one run."""

    def __init__(self, network: MultimodalNet, epochs: int) -> None:
        self.network = network
        self.epochs = epochs

    def begin_epoch(self, epoch: int, probe: ProbeBatches) -> str:
        """Train everything."""
        self.network.train()
        return "independent"

    def backward(self, batch: Batch) -> StepReport:
        """Back-propagate each branch's own loss, and the fused one into the fusion head alone."""
        losses = compute_losses(self.network, batch, is_fused_beside=True)
        sum(losses.branches.values(), losses.fused).backward()  # type: ignore[no-untyped-call]
        return losses.report(batch.labels)

    def state(self) -> dict[str, Any]:
        """Return nothing: there is no state."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Do nothing: there is no state."""
