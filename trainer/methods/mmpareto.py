"""Pareto integration of the fused and the branch's own gradient: no step goes against either loss.

With a = grad of the fused and b = grad of the branch's own loss on its encoder:

    cos(a, b) >= 0:  h = a + b
    cos(a, b) <  0:  h = x a + (1 - x) b of least norm, 0 <= x <= 1
    encoder gradient = gamma * |a + b| * h / |h|

Everything else gets a + b. For two vectors the least norm is in closed form, x = <b - a, b> / |a - b|^2, so nothing
iterates and nothing is 0 / 0. Where h vanishes (a and b opposed, no step serves both) h is a + b as well.

Source: Wei, Hu, "MMPareto: boosting multimodal learning with innocent unimodal assistance" (ICML 2024), algorithm 1;
gamma = 1.5 keeps the gradient's noise, which finds flat minima, as large as it was.
"""

from typing import Any

import msgspec

from models.nets.multimodal import MultimodalNet
from trainer.methods.gradients import Gradients, add, cosine, dot, gradients_of, norm, set_gradients
from trainer.methods.losses import compute_losses
from trainer.methods.method import Batch, ProbeBatches, StepReport

_VANISHED = 1e-4  # of the shorter gradient: below it, the direction of a float32 difference is rounding
_NEGLIGIBLE = 1e-12  # of the longer gradient: what is shorter cannot be lengthened without overflow


class MmParetoConfig(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="mmpareto"
):
    """How long the combined gradient is."""

    gamma: float = 1.5
    """Times the length of the plain sum."""

    def __post_init__(self) -> None:
        if not 0 < self.gamma <= 100:
            raise ValueError(f"gamma is {self.gamma}: expected above 0 to 100")


class MmPareto:
    """All losses at once, their gradients combined per branch."""

    def __init__(self, network: MultimodalNet, epochs: int, config: MmParetoConfig) -> None:
        self.network = network
        self.epochs = epochs
        self.config = config

    def begin_epoch(self, epoch: int, probe: ProbeBatches) -> str:
        """Train everything."""
        self.network.train()
        return "mmpareto"

    def backward(self, batch: Batch) -> StepReport:
        """Leave combined gradients in the encoders, plain sums elsewhere."""
        losses = compute_losses(self.network, batch)
        parameters = list(self.network.parameters())
        own_loss = sum(losses.branches.values(), losses.fused.new_zeros(()))
        fused = gradients_of(losses.fused, parameters)
        own = gradients_of(own_loss, parameters)
        set_gradients(parameters, add(fused, own))
        place = {id(parameter): n for n, parameter in enumerate(parameters)}
        for name in self.network.spec.modality_names:
            encoder = self.network.branch(name).encoder_parameters()
            places = [place[id(parameter)] for parameter in encoder]
            pair = [fused[n] for n in places], [own[n] for n in places]
            set_gradients(encoder, pareto_sum(*pair, self.config.gamma))
        return losses.report(batch.labels)

    def state(self) -> dict[str, Any]:
        """Return nothing: there is no state."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Do nothing: there is no state."""


def pareto_sum(fused: Gradients, own: Gradients, gamma: float) -> Gradients:
    """Return the combination of two gradients, gamma times as long as their sum."""
    total = add(fused, own)
    if cosine(fused, own) >= 0:
        return scaled(total, gamma)
    share = least_norm_share(fused, own)
    combined = add(scaled(fused, share), scaled(own, 1 - share))
    length = norm(combined)
    lengths = norm(fused), norm(own)
    if length <= max(_VANISHED * min(lengths), _NEGLIGIBLE * max(lengths)):
        return scaled(total, gamma)
    return scaled(combined, gamma * norm(total) / length)


def least_norm_share(first: Gradients, second: Gradients) -> float:
    """Return x, 0 to 1, for which x * first + (1 - x) * second is shortest; 0.5 where they are the same."""
    cross, first_square, second_square = dot(first, second), dot(first, first), dot(second, second)
    spread = first_square + second_square - 2 * cross  # |first - second|^2
    return min(1.0, max(0.0, (second_square - cross) / spread)) if spread > 0 else 0.5


def scaled(gradients: Gradients, factor: float) -> Gradients:
    """Return gradients times a factor."""
    return [None if one is None else factor * one for one in gradients]
