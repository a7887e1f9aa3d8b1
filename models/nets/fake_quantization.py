"""Branches that compute as their INT8 graphs will, and still learn: quantization-aware training.

Each convolution sees its input rounded to the 256 levels of symmetric INT8 (the coarsest of the emitted forms: what
survives it survives the CPU's unsigned levels, too) and, normalisation folded in, its weights rounded channel by
channel. Gradients pass the rounding as if it were not there, and stop where a value is clipped. What stays float in an
INT8 graph stays float here: convolutions over few channels, pooling, embedding, heads, fusion.

Source: Jacob et al., "Quantization and training of neural networks for efficient integer-arithmetic-only inference"
(CVPR 2018); Bengio, Leonard, Courville (2013) for the gradient.
"""

from collections.abc import Iterable, Mapping
from typing import cast

import torch
from torch import Tensor, nn

from models.nets.encoders import Branch
from models.nets.multimodal import MultimodalNet
from models.quantization import INT8_SYMMETRIC, LEAST_CHANNELS, affine, weight_axis, weight_scales


class _Round(torch.autograd.Function):
    """Rounding to levels that lets the gradient of unclipped values through."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, values: Tensor, scale: Tensor) -> Tensor:
        lowest, highest = INT8_SYMMETRIC.lowest, INT8_SYMMETRIC.highest
        levels = torch.round(values / scale)  # half to even, as ONNX has it
        ctx.save_for_backward((levels >= lowest) & (levels <= highest))
        return levels.clamp(lowest, highest) * scale

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: Tensor) -> tuple[Tensor, None]:
        (is_inside,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return gradient * is_inside, None


def fake_quantize(values: Tensor, scale: Tensor) -> Tensor:
    """Return values rounded to `scale` times -128 to 127, half to even; `scale` is broadcast."""
    return cast(Tensor, _Round.apply(values, scale))  # type: ignore[no-untyped-call]


class QuantizedLayers:
    """A branch's convolutions as its INT8 graph computes them; weights and normalisation stay the branch's own.

    Normalisation uses the statistics that training left and updates none: its graph has them folded in.
    """

    def __init__(self, layers: nn.Sequential, largest_inputs: Iterable[float]) -> None:
        """Wrap layers; `largest_inputs` holds each convolution's largest absolute input."""
        self._layers = _convolutions(layers)
        self._scales = [
            None if _is_narrow(convolution) else affine(-largest, largest, INT8_SYMMETRIC).scale
            for (convolution, _), largest in zip(self._layers, largest_inputs, strict=True)
        ]

    def __call__(self, inputs: Tensor) -> Tensor:
        """Return the last maps, (batch, channels, *places)."""
        for (convolution, normalisation), scale in zip(self._layers, self._scales, strict=True):
            weight, bias = folded(convolution, normalisation)
            if scale is not None:
                inputs = fake_quantize(inputs, inputs.new_tensor(scale))
                weight = fake_quantize(weight, _channel_scales(weight))
            maps = torch.func.functional_call(convolution, {"weight": weight}, (inputs,))
            inputs = torch.relu(maps + bias.reshape(1, -1, *[1] * (maps.dim() - 2)))
        return inputs


def quantize_branches(network: MultimodalNet, batches: Iterable[Mapping[str, Tensor]]) -> None:
    """Let the branches compute in INT8 from now on, with the ranges that these inputs have; the network stays as it is.

    Args:
        network: trained, with the statistics of its normalisation.
        batches: inputs by modality, (batch, *input_shape), at least one.
    """
    names = network.spec.modality_names
    found: dict[str, list[float]] = {}
    for batch in batches:
        for name in names:
            seen = largest_inputs(network.branch(name), batch[name])
            found[name] = [max(pair) for pair in zip(seen, found.get(name, seen), strict=True)]
    for name in names:
        branch = network.branch(name)
        branch.quantized = QuantizedLayers(branch.layers, found[name])


@torch.no_grad()
def largest_inputs(branch: Branch, inputs: Tensor) -> list[float]:
    """Return the largest absolute input of each convolution, in order, computed as in flight."""
    largest = []
    for convolution, normalisation in _convolutions(branch.layers):
        largest.append(float(inputs.abs().max()))
        weight, bias = folded(convolution, normalisation)
        maps = torch.func.functional_call(convolution, {"weight": weight}, (inputs,))
        inputs = torch.relu(maps + bias.reshape(1, -1, *[1] * (maps.dim() - 2)))
    return largest


def folded(convolution: nn.Module, normalisation: nn.Module) -> tuple[Tensor, Tensor]:
    """Return a convolution's weight (channels, ...) and bias (channels,) with the normalisation that follows it."""
    weight, gamma, beta, mean, variance = (
        cast(Tensor, one)
        for one in (
            convolution.weight, normalisation.weight, normalisation.bias,
            normalisation.running_mean, normalisation.running_var,
        )
    )  # fmt: skip
    factor = gamma / torch.sqrt(variance + cast(float, normalisation.eps))
    return weight * factor.reshape(-1, *[1] * (weight.dim() - 1)), beta - mean * factor


def _convolutions(layers: nn.Sequential) -> list[tuple[nn.Module, nn.Module]]:
    """Return (convolution, normalisation) of each layer; a ReLU follows each."""
    modules = list(layers)
    return list(zip(modules[::3], modules[1::3], strict=True))


def _is_narrow(convolution: nn.Module) -> bool:
    """Return whether a convolution stays float for its few input channels, as in the emitted graphs."""
    return cast(Tensor, convolution.weight).shape[1] < LEAST_CHANNELS


def _channel_scales(weight: Tensor) -> Tensor:
    """Return a scale per output channel, shaped to be broadcast over the weight."""
    scales = weight_scales(weight.detach().cpu().numpy(), weight_axis("Conv"))
    return torch.from_numpy(scales).to(weight).reshape(-1, *[1] * (weight.dim() - 1))
