"""Arithmetic on lists of gradients, one tensor per parameter; None stands for a parameter that got none."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from trainer.training.ranks import average

Gradients = list[Tensor | None]

_TINY = 1e-12


def gradients_of(loss: Tensor, parameters: Sequence[nn.Parameter]) -> Gradients:
    """Return the gradients of a loss, of all processes' shares of the batch; its graph stays for another call."""
    if not loss.requires_grad:
        return [None] * len(parameters)
    gradients: Gradients = list(torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True))
    average(gradients)
    return gradients


def dot(first: Gradients, second: Gradients) -> float:
    """Return the inner product over all parameters."""
    pairs = [(a, b) for a, b in zip(first, second, strict=True) if a is not None and b is not None]
    if not pairs:
        return 0.0
    return float(torch.stack([(a.double() * b.double()).sum() for a, b in pairs]).sum())


def norm(gradients: Gradients) -> float:
    """Return the length over all parameters."""
    return float(dot(gradients, gradients) ** 0.5)


def cosine(first: Gradients, second: Gradients) -> float:
    """Return the cosine of the angle between two gradients, 0 where either vanishes."""
    return dot(first, second) / max(norm(first) * norm(second), _TINY)


def add(first: Gradients, second: Gradients) -> Gradients:
    """Return the sum."""
    return [b if a is None else a if b is None else a + b for a, b in zip(first, second, strict=True)]


def consistent_sum(fused: Gradients, own: Gradients, least_cosine: float) -> tuple[Gradients, float]:
    """Add the fused gradient to the branch's own, without what in it works against the branch; return also the cosine.

    Below `least_cosine` the fused gradient loses its part along the branch's own.
    """
    agreement = cosine(fused, own)
    if agreement >= least_cosine:
        return add(fused, own), agreement
    share = dot(fused, own) / max(dot(own, own), _TINY)
    return add(add(fused, own), [None if b is None else -share * b for b in own]), agreement


def set_gradients(parameters: Sequence[nn.Parameter], gradients: Gradients) -> None:
    """Hand gradients to the optimizer; a parameter without one stays as it is."""
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient
