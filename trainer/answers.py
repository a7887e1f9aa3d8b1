"""A torch network as a model to evaluate."""

import numpy as np
import torch
from numpy.typing import NDArray

from models.nets.multimodal import MultimodalNet
from trainer.data.examples import Inputs
from trainer.evaluate import BranchAnswers


class NetworkModel:
    """Answers in evaluation mode, without gradients."""

    def __init__(self, network: MultimodalNet) -> None:
        self.network = network.eval()
        self.spec = network.spec

    @torch.no_grad()
    def ask_branches(self, inputs: Inputs) -> BranchAnswers:
        """Return what each branch says."""
        answers = {}
        for name in self.spec.modality_names:
            feature, logits = self.network.branch(name)(torch.from_numpy(inputs[name]))
            answers[name] = (feature.numpy(), logits.numpy())
        return answers

    @torch.no_grad()
    def fuse(self, answers: BranchAnswers, mask: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return what the fusion head says."""
        tensors = {name: (torch.from_numpy(f), torch.from_numpy(z)) for name, (f, z) in answers.items()}
        return np.asarray(self.network.fuse(tensors, torch.from_numpy(mask)).logits.numpy())
