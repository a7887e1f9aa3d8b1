"""Joint training: the fused loss alone moves the encoders. The plain baseline."""

from typing import Any

import msgspec

from models.nets.multimodal import MultimodalNet
from trainer.methods.losses import compute_losses
from trainer.methods.method import Batch, ProbeBatches, StepReport
from trainer.methods.probes import probe_loss


class JointConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="joint"):
    """Joint training has no knobs."""


class Joint:
    """Fused loss only; each branch's head learns to read its features without moving them (a linear probe)."""

    def __init__(self, network: MultimodalNet, epochs: int) -> None:
        self.network = network
        self.epochs = epochs

    def begin_epoch(self, epoch: int, probe: ProbeBatches) -> str:
        """Train everything."""
        self.network.train()
        return "joint"

    def backward(self, batch: Batch) -> StepReport:
        """Back-propagate the fused loss, and the heads' own on detached features."""
        losses = compute_losses(self.network, batch, sees_outliers=False)
        (losses.fused + probe_loss(self.network, losses, batch.labels)).backward()  # type: ignore[no-untyped-call]
        return losses.report(batch.labels)

    def state(self) -> dict[str, Any]:
        """Return nothing: there is no state."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Do nothing: there is no state."""
