"""The whole network: a branch per modality and the fusion head over them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from models.nets.encoders import Branch
from models.nets.fusion import build_fusion
from models.nets.sizes import BranchSizes, check_sizes
from models.spec import ModelSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What the network says about a batch."""

    features: dict[str, Tensor]
    """Per modality, (batch, D)."""
    branch_logits: dict[str, Tensor]
    """Per modality, (batch, C): what its own head says."""
    logits: Tensor
    """(batch, C), fused."""
    weights: Tensor
    """(batch, M)."""
    entropies: Tensor
    """(batch, M), 0 to 1."""


class MultimodalNet(nn.Module):
    """Branches and fusion head of a spec; any number of modalities."""

    def __init__(self, spec: ModelSpec, sizes: Mapping[str, BranchSizes]) -> None:
        """Build with fresh weights from torch's random generator.

        Raises:
            ConfigError: `sizes` does not fit the spec's modalities.
        """
        super().__init__()
        check_sizes(spec, dict(sizes))
        self.spec = spec
        self.branches = nn.ModuleDict(
            {one.name: Branch(one, sizes[one.name], len(spec.classes)) for one in spec.modalities}
        )
        self.fusion = build_fusion(spec)

    def branch(self, name: str) -> Branch:
        """Return one modality's branch."""
        return cast(Branch, self.branches[name])

    def forward(self, inputs: Mapping[str, Tensor], mask: Tensor | None = None) -> Answer:
        """Answer a batch; without a mask every modality is available."""
        answers = {name: self.branch(name)(inputs[name]) for name in self.spec.modality_names}
        return self.fuse(answers, mask)

    def fuse(self, answers: Mapping[str, tuple[Tensor, Tensor]], mask: Tensor | None = None) -> Answer:
        """Fuse what the branches answered, (feature, logits) by modality."""
        features = {name: answers[name][0] for name in self.spec.modality_names}
        logits = {name: answers[name][1] for name in self.spec.modality_names}
        if mask is None:
            first = next(iter(features.values()))
            mask = torch.ones(len(first), len(features), dtype=first.dtype, device=first.device)
        fused, weights, entropies = self.fusion(list(features.values()), list(logits.values()), mask)
        return Answer(features=features, branch_logits=logits, logits=fused, weights=weights, entropies=entropies)
