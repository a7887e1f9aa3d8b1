"""The losses that every method starts from."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

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
    """Per modality: of its own head, with its share of doubt."""
    doubts: dict[str, Tensor]
    """Per modality: what of that is owed to outliers; 0 for a frozen branch."""
    answer: Answer

    def report(self, labels: Tensor, cosines: Mapping[str, float] | None = None) -> StepReport:
        """Return plain numbers, with the cosines of gradients that a method has compared; one wait for the device."""
        logits = {"fused": self.answer.logits, **self.answer.branch_logits}
        losses = torch.stack([self.fused, *self.branches.values()]).detach()
        accuracies = torch.stack([(one.argmax(1) == labels).float().mean() for one in logits.values()])
        loss_values, accuracy_values = torch.stack([losses, accuracies]).tolist()
        return StepReport(
            losses=dict(zip(["fused", *self.branches], loss_values, strict=True)),
            accuracies=dict(zip(logits, accuracy_values, strict=True)),
            cosines=dict(cosines or {}),
        )


def compute_losses(
    network: MultimodalNet,
    batch: Batch,
    frozen: Collection[str] = (),
    *,
    is_fused_beside: bool = False,
    sees_outliers: bool = True,
) -> Losses:
    """Return the fused loss under the batch's mask, and each branch's own loss without it.

    Branches in `frozen` run without a graph and without outliers: they cost a forward pass only. A head fused beside
    reads detached features and logits, so that the fused loss moves nothing but the head's own weights, where it has
    any. A method that has no loss on outliers must not see them: they would still move the statistics of batch
    normalisation.
    """
    answers, own, doubts = {}, {}, {}
    count = len(batch.labels)
    for name in network.spec.modality_names:
        is_frozen = name in frozen
        inputs = batch.inputs[name]
        if sees_outliers and not is_frozen:
            inputs = torch.cat([inputs, batch.outliers[name]])
        with torch.set_grad_enabled(torch.is_grad_enabled() and not is_frozen):
            feature, logits = network.branch(name)(inputs)
            doubts[name] = OUTLIER_WEIGHT * doubt_loss(logits[count:])
            own[name] = cross_entropy(logits[:count], batch.labels) + doubts[name]
        answers[name] = (feature[:count], logits[:count])
    answer = fuse_beside(network, answers, batch.mask) if is_fused_beside else network.fuse(answers, batch.mask)
    fused = cross_entropy(answer.logits, batch.labels)
    return Losses(fused=fused, branches=own, doubts=doubts, answer=answer)


def fuse_beside(network: MultimodalNet, answers: Mapping[str, tuple[Tensor, Tensor]], mask: Tensor) -> Answer:
    """Fuse what the branches answered without a way back to them."""
    seen = {name: (feature.detach(), logits.detach()) for name, (feature, logits) in answers.items()}
    features, logits = ({name: pair[n] for name, pair in answers.items()} for n in range(2))
    return replace(network.fuse(seen, mask), features=features, branch_logits=logits)


def doubt_loss(logits: Tensor) -> Tensor:
    """Return how far answers are from uniform: 0 at best, also for no rows."""
    if not len(logits):
        return logits.sum()
    log_probs = log_softmax(logits, dim=1)
    return -log_probs.mean() - torch.log(torch.tensor(float(logits.shape[1])))
