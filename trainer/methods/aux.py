"""Joint training with auxiliary losses: the fused loss and each branch's own move the encoders together.

    loss = L_fused + weight * sum_m L_m

The plain cure for a lazy modality, and a strong one: whatever claims to balance modalities has to beat it.

Source: the unweighted form of Wang, Tran, Feiszli, "What makes training multi-modal classification networks hard?"
(CVPR 2020), whose blend has a weight per modality.
"""

from typing import Any

import msgspec

from models.nets.multimodal import MultimodalNet
from trainer.methods.losses import compute_losses
from trainer.methods.method import Batch, ProbeBatches, StepReport


class AuxConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="aux"):
    """How much the branches' own losses count."""

    own_loss_weight: float = 1.0
    """Of each branch's own loss beside the fused one."""

    def __post_init__(self) -> None:
        if not 0 <= self.own_loss_weight <= 100:
            raise ValueError(f"own_loss_weight is {self.own_loss_weight}: expected 0 to 100")


class Aux:
    """Fused and own losses, all of the network, all of the time."""

    def __init__(self, network: MultimodalNet, epochs: int, config: AuxConfig) -> None:
        self.network = network
        self.epochs = epochs
        self.config = config

    def begin_epoch(self, epoch: int, probe: ProbeBatches) -> str:
        """Train everything."""
        self.network.train()
        return "aux"

    def backward(self, batch: Batch) -> StepReport:
        """Back-propagate the sum of all losses."""
        losses = compute_losses(self.network, batch)
        own = [self.config.own_loss_weight * loss for loss in losses.branches.values()]
        sum(own, losses.fused).backward()  # type: ignore[no-untyped-call]
        return losses.report(batch.labels)

    def state(self) -> dict[str, Any]:
        """Return nothing: there is no state."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Do nothing: there is no state."""
