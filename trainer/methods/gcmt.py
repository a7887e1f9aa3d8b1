"""Gradient-criterion multistage training: four stages, in which branches that go lazy are trained alone for a while.

Warm-up trains everything on all losses. Then rounds of a few epochs each train one branch and the fusion head, the
other branches frozen: before a round, a probe measures for each branch how well the gradients of the fused and of its
own loss agree, and the selector picks the branch. The fusion head is then refitted on frozen branches, and at last
everything is consolidated at the end of the learning-rate schedule.

Source: after Wang, Xu, Lin, IEEE JSTARS 2025 (doi 10.1109/JSTARS.2025.3586132), of which only the abstract was
available: stages, criterion, selector and guard are ours.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
import torch

from models.nets.multimodal import MultimodalNet
from trainer.methods.gradients import add, consistent_sum, cosine, gradients_of, norm, set_gradients
from trainer.methods.losses import compute_losses
from trainer.methods.method import Batch, ProbeBatches, StepReport
from trainer.training.ranks import from_first

log = logging.getLogger(__name__)

_WARM_UP, _CONSOLIDATE = 0.2, 0.3  # shares of the budget; between them, branches alternate
_REFIT = 0.05  # of the budget's epochs, beside it: no branch is updated
_EMA = 0.5
_ANY_COSINE = -1.0
_GAIN = 0.005  # least rise of a branch's accuracy that counts as progress
_FRUITLESS_ROUNDS = 2
_CRITERIA = {"consistent": "most consistent gradients", "lag": "least accurate", "turns": "next in turn"}

Measured = dict[str, dict[str, float]]
"""By quantity, then by branch."""


class GcmtConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="gcmt"):
    """How the branch of each round is picked."""

    selector: Literal["consistent", "lag", "turns"] = "consistent"
    """consistent: whose fused and own gradients agree best; lag: the least accurate; turns: each in turn."""
    round_epochs: int = 2
    max_stay: int = 2
    """Rounds that one branch may train in a row."""
    own_loss_weight: float = 1.0
    """Of the branches' own losses in warm-up and consolidation."""
    own_loss: Literal["always", "consistent"] = "always"
    """consistent: a branch's own loss counts by the cosine of its gradient with the fused one, and not below 0, so that
    a branch which knows nothing by itself is not trained to."""
    least_cosine: float = 0.0
    """Below it, the fused gradient loses its part along the branch's own; -1 never compares, which saves a backward
    pass in every step."""
    probe_batches: int = 4

    def __post_init__(self) -> None:
        if min(self.round_epochs, self.max_stay, self.probe_batches) < 1:
            raise ValueError("round_epochs, max_stay and probe_batches: expected 1 or more each")
        if not (0 <= self.own_loss_weight <= 100 and -1 <= self.least_cosine <= 1):
            raise ValueError("expected own_loss_weight 0 to 100 and least_cosine -1 to 1")


@dataclass(frozen=True, kw_only=True, slots=True)
class Stages:
    """First epoch after each stage."""

    warm_up: int
    alternate: int
    refit: int
    consolidate: int


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """Why a branch trains in a round: what was measured, who could be picked, who was."""

    epoch: int
    """The round's first."""
    steps: int
    """Batches behind."""
    consistency: dict[str, float]
    """Cosine of fused and own gradient, as just measured; the selector sees `RoundState`'s moving averages of these."""
    accuracy: dict[str, float]
    gradient_ratio: dict[str, float]
    average_consistency: dict[str, float]
    average_accuracy: dict[str, float]
    average_gradient_ratio: dict[str, float]
    candidates: tuple[str, ...]
    chosen: str
    why: str


class RoundState(msgspec.Struct, kw_only=True):
    """What the selection remembers from round to round."""

    steps: int = 0
    """Batches behind."""
    decision: Decision | None = None
    """The latest."""

    active: str | None = None
    stay: int = 0
    consistency: dict[str, float] = {}
    accuracy: dict[str, float] = {}
    gradient_ratio: dict[str, float] = {}
    """Fused over own gradient norm: how hard the fused loss still pulls at a branch."""
    rounds: dict[str, int] = {}
    fruitless: dict[str, int] = {}


def plan_stages(epochs: int, branches: int) -> Stages:
    """Split a budget of epochs so that branches are updated in as many as under joint training, on average.

    An alternating epoch updates one branch of several, so it counts as a part; refitting updates none, so it is free.
    """
    warm_up = max(1, round(_WARM_UP * epochs))
    consolidation = max(1, round(_CONSOLIDATE * epochs))
    alternate = warm_up + branches * max(0, epochs - warm_up - consolidation)
    refit = alternate + max(1, round(_REFIT * epochs))
    return Stages(warm_up=warm_up, alternate=alternate, refit=refit, consolidate=refit + consolidation)


class Gcmt:
    """The method's state over one run."""

    def __init__(self, network: MultimodalNet, epochs: int, config: GcmtConfig) -> None:
        self.network = network
        self.config = config
        self.stages = plan_stages(epochs, len(network.spec.modalities))
        self.selection = RoundState()
        self._frozen: frozenset[str] = frozenset()
        self._is_warming_up = False

    @property
    def epochs(self) -> int:
        """Epochs to run."""
        return self.stages.consolidate

    @property
    def first_judged_epoch(self) -> int:
        """That of consolidation: before it, branches are frozen in turn, and the fused loss follows the plan."""
        return self.stages.refit

    def spent(self, epochs: float) -> float:
        """Return the share of the budget that the first epochs spend: alternating ones less, refitting none."""
        stages = self.stages
        costs = (
            (stages.warm_up, 1.0),
            (stages.alternate - stages.warm_up, 1.0 / len(self.network.spec.modalities)),
            (stages.refit - stages.alternate, 0.0),
            (stages.consolidate - stages.refit, 1.0),
        )
        behind, left = 0.0, epochs
        for length, cost in costs:
            behind += cost * min(length, left)
            left -= min(length, left)
        return behind / sum(length * cost for length, cost in costs)

    def begin_epoch(self, epoch: int, probe: ProbeBatches) -> str:
        """Pick the branch where a round begins, then freeze what this epoch leaves alone."""
        stage = self._stage(epoch)
        begins_round = stage == "alternate" and (epoch - self.stages.warm_up) % self.config.round_epochs == 0
        if begins_round or self.config.own_loss == "consistent":
            measured = self._probe(probe(self.config.probe_batches), begins_round)
            if begins_round:
                self._decide(epoch, measured)
        names = self.network.spec.modality_names
        active = {"alternate": {self.selection.active}, "refit": set()}.get(stage, set(names))
        self._freeze(frozenset(names) - active)
        self._is_warming_up = stage == "warm-up"
        return f"alternate:{self.selection.active}" if stage == "alternate" else stage

    def backward(self, batch: Batch) -> StepReport:
        """Leave gradients for the active branches and the fusion head."""
        self.selection.steps += 1
        losses = compute_losses(self.network, batch, self._frozen)
        awake = [name for name in self.network.spec.modality_names if name not in self._frozen]
        own_loss = sum((self._share(name) * losses.branches[name] for name in awake), torch.zeros(()))
        weight = self.config.own_loss_weight if not self._frozen else 1.0
        if self._is_warming_up or self.config.least_cosine == _ANY_COSINE:
            total = losses.fused + weight * own_loss
            if total.requires_grad:
                total.backward()  # type: ignore[no-untyped-call]
            return losses.report(batch.labels)
        parameters = [one for one in self.network.parameters() if one.requires_grad]
        fused = dict(zip(parameters, gradients_of(losses.fused, parameters), strict=True))
        own = dict(zip(parameters, gradients_of(weight * own_loss, parameters), strict=True))
        set_gradients(parameters, add(list(fused.values()), list(own.values())))
        cosines = {}
        for name in awake:
            encoder = self.network.branch(name).encoder_parameters()
            pair = ([fused[one] for one in encoder], [own[one] for one in encoder])
            gradients, cosines[name] = consistent_sum(*pair, self.config.least_cosine)
            set_gradients(encoder, gradients)
        return losses.report(batch.labels, cosines)

    def _share(self, name: str) -> float:
        """Return how much a branch's own loss counts."""
        return 1.0 if self.config.own_loss == "always" else max(0.0, self.selection.consistency[name])

    def state(self) -> dict[str, Any]:
        """Return the selection's memory."""
        return dict(msgspec.to_builtins(self.selection))

    def restore(self, state: dict[str, Any]) -> None:
        """Take up the selection's memory."""
        self.selection = msgspec.convert(state, RoundState)

    def _stage(self, epoch: int) -> str:
        if epoch < self.stages.warm_up:
            return "warm-up"
        if epoch < self.stages.alternate:
            return "alternate"
        return "refit" if epoch < self.stages.refit else "consolidate"

    def _freeze(self, frozen: frozenset[str]) -> None:
        """Freeze branches: no gradient, and statistics of their normalisation held.

        `train()` would wake frozen normalisation, so it comes first. An old gradient would keep moving weights through
        the optimizer's moments, so frozen parameters hold None.
        """
        self._frozen = frozen
        self.network.train()
        for name in self.network.spec.modality_names:
            branch = self.network.branch(name)
            branch.requires_grad_(name not in frozen)
            if name in frozen:
                branch.eval()
                branch.zero_grad(set_to_none=True)

    def _probe(self, batches: Sequence[Batch], begins_round: bool) -> Measured:
        """Measure every branch, all of them awake but none in training mode, and update the moving averages; where a
        round begins, the last one is judged by it."""
        self._freeze(frozenset())
        self.network.eval()
        names = self.network.spec.modality_names
        measured: Measured = from_first(self._measure(batches))  # rounding must not part the processes
        for name in names:
            if begins_round:
                self._judge_last_round(name, measured["accuracy"][name])
            for quantity, memory in self._averages().items():
                value = measured[quantity][name]
                memory[name] = value if name not in memory else _EMA * memory[name] + (1 - _EMA) * value
        return measured

    def _measure(self, batches: Sequence[Batch]) -> Measured:
        """Return the mean over batches of what decides, by quantity and branch."""
        names = self.network.spec.modality_names
        sums = {name: torch.zeros(3, dtype=torch.float64) for name in names}
        for batch in batches:
            losses = compute_losses(self.network, batch)
            accuracies = losses.report(batch.labels).accuracies
            for name in names:
                encoder = self.network.branch(name).encoder_parameters()
                fused, own = gradients_of(losses.fused, encoder), gradients_of(losses.branches[name], encoder)
                ratio = norm(fused) / (norm(own) + 1e-12)
                sums[name] += torch.tensor([cosine(fused, own), accuracies[name], ratio], dtype=torch.float64)
        means = {name: (total / len(batches)).tolist() for name, total in sums.items()}
        return {quantity: {name: means[name][n] for name in names} for n, quantity in enumerate(self._averages())}

    def _averages(self) -> Measured:
        """Return the moving averages, by quantity and branch."""
        selection = self.selection
        return {
            "consistency": selection.consistency,
            "accuracy": selection.accuracy,
            "gradient_ratio": selection.gradient_ratio,
        }

    def _judge_last_round(self, name: str, accuracy: float) -> None:
        """Count rounds that brought the branch that they trained nothing: a hopeless branch must not eat the budget."""
        if name == self.selection.active and accuracy < self.selection.accuracy[name] + _GAIN:
            self.selection.fruitless[name] = self.selection.fruitless.get(name, 0) + 1

    def _decide(self, epoch: int, measured: Measured) -> None:
        """Pick the round's branch, and keep how that came about."""
        candidates, why = self._select()
        averages = {f"average_{quantity}": dict(memory) for quantity, memory in self._averages().items()}
        decision = Decision(
            epoch=epoch,
            steps=self.selection.steps,
            candidates=candidates,
            chosen=str(self.selection.active),
            why=why,
            **measured,
            **averages,
        )
        self.selection.decision = decision
        listed = ", ".join(f"{name} {value:.2f}" for name, value in decision.average_consistency.items())
        log.info("epoch %d: %s trains next: %s (cosines %s)", epoch, decision.chosen, why, listed)

    def _select(self) -> tuple[tuple[str, ...], str]:
        """Pick among the branches that still gain and have not stayed too long; return those, and why it was this one.

        Where no branch gains any more, all may be picked again; where only one gains, it may stay.
        """
        selection, names = self.selection, list(self.network.spec.modality_names)
        gaining = [name for name in names if selection.fruitless.get(name, 0) < _FRUITLESS_ROUNDS] or names
        rested = [n for n in gaining if n != selection.active or selection.stay < self.config.max_stay]
        candidates = rested or gaining
        score = {
            "consistent": lambda name: -selection.consistency[name],
            "lag": lambda name: selection.accuracy[name],
            "turns": lambda name: selection.rounds.get(name, 0),
        }[self.config.selector]
        chosen = min(candidates, key=score)
        reasons = [_CRITERIA[self.config.selector] if len(candidates) > 1 else "the only one left"]
        reasons += [f"{n} barred: {selection.fruitless[n]} fruitless rounds" for n in names if n not in gaining]
        reasons += [f"{n} stayed {selection.stay} rounds: rested" for n in gaining if n not in candidates]
        selection.stay = selection.stay + 1 if chosen == selection.active else 1
        selection.active = chosen
        selection.rounds[chosen] = selection.rounds.get(chosen, 0) + 1
        return tuple(candidates), "; ".join(reasons)
