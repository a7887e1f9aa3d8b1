"""A torch network as a model to evaluate."""

import numpy as np
import torch
from numpy.typing import NDArray

from models.nets.fusion import IemfFusion
from models.nets.multimodal import MultimodalNet
from trainer.evaluation.asking import Asked, BranchAnswer, BranchAnswers, Fused
from trainer.evaluation.confidence import fit_temperature, fit_temperatures, likelihood_loss


class NetworkModel:
    """Answers in evaluation mode, without gradients."""

    def __init__(self, network: MultimodalNet, temperature: float = 1.0) -> None:
        self.network = network.eval()
        self.spec = network.spec
        self.temperature = temperature

    def calibrate(self, asked: Asked) -> None:
        """Fit temperatures to what the branches said about validation examples.

        The fused logits always get one. The branches of an entropy fusion get one each where that makes the truth
        likelier in the fused answer: its dense layer was trained beside branches as they were.
        """
        plain = self._fit_fused(asked)
        head = self.network.fusion
        if isinstance(head, IemfFusion):
            logits = {
                name: np.where(asked.present[:, m : m + 1] > 0, asked.branches[name][1], np.nan)
                for m, name in enumerate(self.spec.modality_names)
            }
            head.temperatures.copy_(torch.tensor(list(fit_temperatures(logits, asked.labels).values())))
            if self._fit_fused(asked) >= plain:
                head.temperatures.fill_(1.0)
                self._fit_fused(asked)

    def _fit_fused(self, asked: Asked) -> float:
        """Fit the temperature of the fused logits, and return the loss that is left."""
        logits = self.fuse(asked.branches, asked.present).logits
        self.temperature = fit_temperature(logits, asked.labels)
        return likelihood_loss(logits / self.temperature, asked.labels)

    @torch.no_grad()
    def ask_branch(self, name: str, inputs: NDArray[np.float32]) -> BranchAnswer:
        """Return what a branch says."""
        feature, logits = self.network.branch(name)(torch.from_numpy(inputs))
        return feature.numpy(), logits.numpy()

    @torch.no_grad()
    def fuse(self, answers: BranchAnswers, mask: NDArray[np.float32]) -> Fused:
        """Return what the fusion head says."""
        tensors = {name: (torch.from_numpy(f), torch.from_numpy(z)) for name, (f, z) in answers.items()}
        answer = self.network.fuse(tensors, torch.from_numpy(mask))
        return Fused(answer.logits.numpy(), answer.weights.numpy())
