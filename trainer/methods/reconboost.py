"""Boosting across modalities: one branch at a time learns what the others still get wrong, then all learn together.

A run is a sequence of stages. Each trains one branch m alone, then all of them. With z_m the branch's logits and
Phi = sum of the other branches' logits, which are held, a branch alone learns by

    loss = L_m - reconcilement * KL(softmax Phi || softmax z_m) + consolidation * |softmax z_m - softmax z_before|^2

where `before` is the branch of the stage before. At reconcilement = 1 the first two terms have the gradient
softmax Phi - onehot(y): the branch fits the negative gradient of the others' loss, which is boosting. The last term
keeps it from forgetting what its forerunner knew (memory consolidation). Stages end with all branches on the loss of
their sum (global rectification):

    loss = CE(sum_m a_m z_m, y)

Source: Hua et al., "ReconBoost: boosting can achieve modality reconcilement" (ICML 2024), of which abstract, figures
and settings were read; its released code weighs examples instead of the KL term and gives the consolidation no
gradient. Ours: branches that have learned nothing yet are not among the others; outliers are answered with doubt
throughout; the sum is under the mask of modality dropout; a fusion form with weights learns from detached features
beside (the form `poe` answers as the sum does); no pretraining: a run starts with each branch alone.
"""

from collections.abc import Sequence
from itertools import takewhile
from typing import Any

import msgspec
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from models.nets.multimodal import MultimodalNet
from trainer.methods.losses import Losses, compute_losses
from trainer.methods.method import Batch, ProbeBatches, StepReport


class ReconBoostConfig(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="reconboost"
):
    """How stages run, and what pulls at a branch besides the labels."""

    reconcilement: float = 0.2
    """How far a branch turns to what the others get wrong: 0 each for itself, near 1 boosting."""
    consolidation: float = 0.1
    """Of the distance from what the branch of the stage before answers."""
    alone_epochs: int = 2
    """Of one branch, in a stage."""
    together_epochs: int = 2
    """Of all branches, at the end of a stage."""

    def __post_init__(self) -> None:
        if not (0 <= self.reconcilement <= 1 and 0 <= self.consolidation <= 100):
            raise ValueError("expected reconcilement 0 to 1 and consolidation 0 to 100")
        if self.alone_epochs < 1 or self.together_epochs < 0:
            raise ValueError("expected alone_epochs 1 or more and together_epochs 0 or more")


class ReconBoost:
    """Branches in turn, each against the sum of the others."""

    def __init__(self, network: MultimodalNet, epochs: int, config: ReconBoostConfig) -> None:
        self.network = network
        self.config = config
        self._names = network.spec.modality_names
        self._plan = plan_epochs(self._names, epochs, config)
        self._active: str | None = None
        self._others: list[str] = []
        self._before: str | None = None

    @property
    def epochs(self) -> int:
        """Epochs to run, so that each branch gets as many updates as in joint training."""
        return len(self._plan)

    @property
    def first_judged_epoch(self) -> int:
        """The last one of the last branch's first time alone: before it, not all branches have learned."""
        begun = self._plan.index(self._names[-1])
        return begun - 1 + sum(1 for _ in takewhile(lambda name: name == self._names[-1], self._plan[begun:]))

    def begin_epoch(self, epoch: int, probe: ProbeBatches) -> str:
        """Take up what the plan holds for this epoch; the position in it is all that there is to remember."""
        self._active = self._plan[epoch]
        past = self._plan[:epoch]
        learned = set(self._names) if None in past else set(past)
        self._others = [name for name in self._names if name in learned and name != self._active]
        self._before = next((name for name in reversed(past) if name not in (None, self._active)), None)
        self.network.train()
        if self._active is None:
            return "together"
        for name in self._names:
            self.network.branch(name).train(name == self._active)
        return f"alone:{self._active}"

    def backward(self, batch: Batch) -> StepReport:
        """Leave gradients for the active branch or for all, and for the fusion head on detached inputs."""
        resting = [name for name in self._names if self._active not in (None, name)]
        losses = compute_losses(self.network, batch, resting, is_fused_beside=True)
        own = self._together_loss(losses, batch) if self._active is None else self._alone_loss(self._active, losses)
        (own + losses.fused).backward()  # type: ignore[no-untyped-call]
        return losses.report(batch.labels)

    def state(self) -> dict[str, Any]:
        """Return nothing: the epoch tells the place in the plan."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Do nothing: the epoch tells the place in the plan."""

    def _alone_loss(self, active: str, losses: Losses) -> Tensor:
        logits = losses.answer.branch_logits
        loss = losses.branches[active]
        if self._others:
            others = sum((logits[name] for name in self._others[1:]), logits[self._others[0]])
            loss = loss - self.config.reconcilement * divergence(others, logits[active])
        if self._before is not None:
            loss = loss + self.config.consolidation * disagreement(logits[active], logits[self._before])
        return loss

    def _together_loss(self, losses: Losses, batch: Batch) -> Tensor:
        scaled = [batch.mask[:, m : m + 1] * losses.answer.branch_logits[name] for m, name in enumerate(self._names)]
        return cross_entropy(sum(scaled[1:], scaled[0]), batch.labels) + sum(losses.doubts.values())


def plan_epochs(names: Sequence[str], epochs: int, config: ReconBoostConfig) -> list[str | None]:
    """Return who learns in each epoch, None for all: every branch in exactly `epochs` of them.

    Rounds of one stage per branch fill the end. A part and what is left over goes to each branch alone, first: one
    that begins beside a branch that has learned is left with errors that it cannot mend.
    """
    alone, together = config.alone_epochs, config.together_epochs
    first = min(alone, epochs)
    rounds, rest = divmod(epochs - first, alone + len(names) * together)
    plan: list[str | None] = [name for name in names for _ in range(first + rest)]
    for name in rounds * list(names):
        plan += [name] * alone + [None] * together
    return plan


def divergence(target: Tensor, logits: Tensor) -> Tensor:
    """Return KL(softmax target || softmax logits), averaged over rows."""
    log_target = torch.log_softmax(target.detach(), dim=1)
    return (log_target.exp() * (log_target - torch.log_softmax(logits, dim=1))).sum(dim=1).mean()


def disagreement(logits: Tensor, memory: Tensor) -> Tensor:
    """Return the squared distance between two answers' probabilities, averaged over rows."""
    distance = torch.softmax(logits, dim=1) - torch.softmax(memory.detach(), dim=1)
    return distance.square().sum(dim=1).mean()
