"""The branches: one modality's input -> its feature and its own logits. Convolution, normalisation and ReLU only.

Nothing here is hard for an integer engine: no attention, no Fourier transform (spectrograms are made before, see
models/spectrogram.py), no data-dependent shape.
"""

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

from models.nets.sizes import BranchSizes
from models.spec import ImageRecipe, IqRecipe, ModalitySpec, Recipe


class Branch(nn.Module):
    """An encoder and the head that makes it a classifier of its own."""

    is_bf16 = False
    """Whether the encoder computes in bfloat16, as training on a GPU may; the head stays in float32."""
    is_channels_last = False
    """Whether the channels of a place lie together in memory: the same answers but for rounding, in less time
    on a CPU."""
    quantized: Callable[[Tensor], Tensor] | None = None
    """What computes instead of `layers`, on the same weights, in quantization-aware training."""

    def __init__(self, modality: ModalitySpec, sizes: BranchSizes, classes: int) -> None:
        super().__init__()
        self.layers = build_layers(modality.recipe, sizes)
        self.embed = nn.Sequential(
            nn.Dropout(sizes.dropout), nn.Linear(2 * sizes.widths[-1], modality.feature_size), nn.ReLU()
        )
        self.head = nn.Linear(modality.feature_size, classes)

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Return (feature (batch, D), logits (batch, C))."""
        if self.is_bf16:
            with torch.autocast(inputs.device.type, torch.bfloat16):
                feature = self._encode(inputs).float()
        else:
            feature = self._encode(inputs)
        return feature, self.head(feature)

    def _encode(self, inputs: Tensor) -> Tensor:
        """Return the feature. Mean and maximum over time or area: one tells the texture, the other the rare burst."""
        if self.is_channels_last:
            inputs = inputs.unsqueeze(2) if inputs.dim() == 3 else inputs
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        maps = (self.quantized or self.layers)(inputs).flatten(2)  # (batch, channels, places)
        return cast(Tensor, self.embed(torch.cat([maps.mean(dim=2), maps.amax(dim=2)], dim=1)))

    def encoder_parameters(self) -> list[nn.Parameter]:
        """Parameters that both the fused and the branch's own loss move: all but the head's."""
        return [*self.layers.parameters(), *self.embed.parameters()]


class Convolution(nn.Conv1d):
    """A 1-D convolution that also takes images one pixel high, (batch, channels, 1, places)."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Convolve along the places."""
        if inputs.dim() == 3:
            return super().forward(inputs)
        padding = (0, int(self.padding[0]))
        return nn.functional.conv2d(inputs, self.weight.unsqueeze(2), self.bias, (1, self.stride[0]), padding)


class Normalisation(nn.BatchNorm1d):
    """Batch normalisation of the same two shapes."""

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() not in (3, 4):
            raise ValueError(f"{input.dim()} dimensions: expected 3 or 4")


def build_layers(recipe: Recipe, sizes: BranchSizes) -> nn.Sequential:
    """Return the convolutions for a kind of input."""
    if isinstance(recipe, IqRecipe):
        return iq_layers(sizes) if recipe.spectrogram is None else image_layers(sizes, channels=1)
    return image_layers(sizes) if isinstance(recipe, ImageRecipe) else vector_layers(recipe.values, sizes)


def iq_layers(sizes: BranchSizes) -> nn.Sequential:
    """Return 1-D convolutions over (batch, 2, samples); a kernel spans about four strides, at least three samples."""
    layers: list[nn.Module] = []
    channels = 2
    for width, stride in zip(sizes.widths, sizes.strides, strict=True):
        kernel = max(3, 4 * stride - 1)
        convolution = Convolution(channels, width, kernel, stride, padding=kernel // 2, bias=False)
        layers += [convolution, Normalisation(width), nn.ReLU()]
        channels = width
    return nn.Sequential(*layers)


def image_layers(sizes: BranchSizes, channels: int = 3) -> nn.Sequential:
    """Return 3 x 3 convolutions over (batch, channels, height, width), of a spectrogram over frequency and time."""
    layers: list[nn.Module] = []
    for width, stride in zip(sizes.widths, sizes.strides, strict=True):
        layers += [nn.Conv2d(channels, width, 3, stride, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        channels = width
    return nn.Sequential(*layers)


def vector_layers(values: int, sizes: BranchSizes) -> nn.Sequential:
    """Return dense layers over (batch, values, 1): convolutions of one place, so that all branches export alike."""
    layers: list[nn.Module] = []
    channels = values
    for width in sizes.widths:
        layers += [Convolution(channels, width, 1, bias=False), Normalisation(width), nn.ReLU()]
        channels = width
    return nn.Sequential(*layers)
