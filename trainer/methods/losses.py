"""The losses that every method starts from."""

from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, log_softmax

from models.nets.multimodal import Answer, MultimodalNet
from trainer.methods.method import Batch, StepReport

OUTLIER_WEIGHT = 0.5
"""Of the loss on outliers in a branch's own loss."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Losses:
    """Losses of one batch, with the answer that they judge."""

    fused: Tensor
    branches: dict[str, Tensor]
    """Per modality: of its own head."""
    answer: Answer

    def report(self, labels: Tensor) -> StepReport:
        """Return plain numbers."""
        logits = {"fused": self.answer.logits, **self.answer.branch_logits}
        return StepReport(
            losses={"fused": self.fused.item(), **{name: loss.item() for name, loss in self.branches.items()}},
            accuracies={name: (one.argmax(1) == labels).float().mean().item() for name, one in logits.items()},
        )


def compute_losses(
    network: MultimodalNet, batch: Batch, frozen: Collection[str] = (), *, is_fused_beside: bool = False
) -> Losses:
    """Return the fused loss under the batch's mask, and each branch's own loss without it.

    Branches in `frozen` run without a graph: they cost a forward pass only. A head fused beside reads detached features
    and logits, so that the fused loss moves nothing but the head's own weights, where it has any.
    """
    answers, own = {}, {}
    count = len(batch.labels)
    for name in network.spec.modality_names:
        inputs = torch.cat([batch.inputs[name], batch.outliers[name]])
        with torch.set_grad_enabled(torch.is_grad_enabled() and name not in frozen):
            feature, logits = network.branch(name)(inputs)
            own[name] = cross_entropy(logits[:count], batch.labels) + OUTLIER_WEIGHT * doubt_loss(logits[count:])
        seen = (feature[:count], logits[:count])
        answers[name] = (seen[0].detach(), seen[1].detach()) if is_fused_beside else seen
    answer = network.fuse(answers, batch.mask)
    return Losses(fused=cross_entropy(answer.logits, batch.labels), branches=own, answer=answer)


def doubt_loss(logits: Tensor) -> Tensor:
    """Return how far answers are from uniform: 0 at best, also for no rows."""
    if not len(logits):
        return logits.sum()
    log_probs = log_softmax(logits, dim=1)
    return -log_probs.mean() - torch.log(torch.tensor(float(logits.shape[1])))
