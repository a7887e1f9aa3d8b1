"""Where a run computes, and how precisely."""

from typing import Literal

import torch

from models.errors import DeviceError
from models.nets.multimodal import MultimodalNet

Device = Literal["auto", "cpu", "cuda"]


def pick_device(asked: Device) -> torch.device:
    """Return the device to train on; on a GPU, cuDNN is told to use its deterministic algorithms and to time none.

    Raises:
        DeviceError: a GPU is asked for and there is none.
    """
    has_gpu = torch.cuda.is_available()
    if asked == "cuda" and not has_gpu:
        raise DeviceError("device cuda: torch finds no GPU here: write `device: auto`, or install torch with CUDA")
    if asked == "cpu" or not has_gpu:
        return torch.device("cpu")
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    return torch.device("cuda", torch.cuda.current_device())


def as_flown(network: MultimodalNet) -> MultimodalNet:
    """Return a trained network as it will fly, itself moved to the CPU and to full precision: so it is judged."""
    for name in network.spec.modality_names:
        network.branch(name).is_bf16 = False
    return network.cpu()
