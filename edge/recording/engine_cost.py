"""What inference costs in the virtual time of exact replay."""

import bisect
import math
from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from edge.transport.messages import Classification, Inference
from models.errors import ConfigError

NS_PER_MS = 1_000_000
DEFAULT_COST_NS = 3 * NS_PER_MS
"""Where nobody knows better."""
MAX_COST_MS = 60_000.0
TYPICAL_OF = 9
"""Inferences of which the median is what the next one costs."""
RECORDED = "recorded"

Costs = Sequence[tuple[int, int]]
"""(since when, cost), both in ns, in the order of time."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineCost:
    """Cost of an inference, by modality and time."""

    costs: Mapping[str, Costs] = field(default_factory=dict)
    """By modality."""
    otherwise_ns: int = DEFAULT_COST_NS
    """Of the other modalities."""

    def at(self, modality: str, now_ns: int) -> int:
        """Return what an inference that begins at a time costs: as the last one before it, or the first of all."""
        costs = self.costs.get(modality)
        if not costs:
            return self.otherwise_ns
        return costs[max(bisect.bisect_right(costs, (now_ns, _LARGEST)) - 1, 0)][1]

    def check(self, modalities: Collection[str]) -> None:
        """Raise ConfigError where a modality is named that the model does not have."""
        unknown = sorted(set(self.costs) - set(modalities))
        if unknown:
            raise ConfigError(f"--engine-cost names {unknown}: expected modalities of the model, {sorted(modalities)}")


DEFAULT_COST = EngineCost()


def parse_engine_cost(text: str) -> EngineCost | None:
    """Return what `--engine-cost` says: `MS` or `NAME=MS,...`; None for `recorded`.

    Raises:
        ConfigError: it is none of them, or a cost is not 0 to 60000 ms.
    """
    if text == RECORDED:
        return None
    if "=" not in text:
        return EngineCost(otherwise_ns=_cost_ns(text, text))
    pairs = [part.partition("=") for part in text.split(",")]
    if any(not name or not is_pair for name, is_pair, _ in pairs):
        raise _unusable(text)
    return EngineCost(costs={name: ((0, _cost_ns(value, text)),) for name, _, value in pairs})


def traced_cost(inferences: Iterable[Inference], modalities: Mapping[str, str]) -> EngineCost:
    """Return what each inference of a flight took.

    Args:
        inferences: of the flight's trace.
        modalities: stream -> modality.
    """
    costs: dict[str, list[tuple[int, int]]] = {}
    for one in inferences:
        costs.setdefault(modalities[one.stream], []).append((one.taken_ns, one.done_ns - one.taken_ns))
    return EngineCost(costs={name: _typical(of_modality) for name, of_modality in costs.items()})


def answered_cost(answers: Iterable[Classification], order: Sequence[str]) -> EngineCost:
    """Return what the inferences took that caused a flight's answers, where it has no trace.

    Args:
        answers: of the flight.
        order: of the modalities, the one first that paces the answers where it is there.
    """
    costs: dict[str, list[tuple[int, int]]] = {}
    for answer in answers:
        present = {modality.name for modality in answer.modalities if modality.mask > 0}
        trigger = next((name for name in order if name in present), None)
        took_ms = answer.latency_ms.get("preprocess", 0.0) + answer.latency_ms.get("infer", math.nan)
        if trigger is not None and 0 <= took_ms <= MAX_COST_MS:
            costs.setdefault(trigger, []).append((answer.answer_ns, round(took_ms * NS_PER_MS)))
    return EngineCost(costs={name: _typical(of_modality) for name, of_modality in costs.items()})


_LARGEST = 1 << 62


def _typical(costs: list[tuple[int, int]]) -> Costs:
    """Return for each time the median of the last few costs: one that was held up says nothing of the next."""
    recent: deque[int] = deque(maxlen=TYPICAL_OF)
    typical = []
    for since_ns, cost_ns in sorted(costs):
        recent.append(cost_ns)
        typical.append((since_ns, sorted(recent)[len(recent) // 2]))
    return typical


def _cost_ns(value: str, text: str) -> int:
    try:
        cost_ms = float(value)
    except ValueError as error:
        raise _unusable(text) from error
    if not 0 <= cost_ms <= MAX_COST_MS:
        raise _unusable(text)
    return round(cost_ms * NS_PER_MS)


def _unusable(text: str) -> ConfigError:
    return ConfigError(
        f"--engine-cost {text}: expected recorded, milliseconds from 0 to {MAX_COST_MS:.0f} such as 3.5, or some for"
        " modalities, such as iq=0.5,image=20"
    )
