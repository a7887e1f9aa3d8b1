"""What inference costs in the virtual time of exact replay."""

import bisect
import math
from array import array
from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge.recording.flight_trace import FlightTrace
from edge.transport.messages import Classification
from models.errors import ConfigError

NS_PER_MS = 1_000_000
DEFAULT_COST_NS = 3 * NS_PER_MS
"""Where nobody knows better."""
MAX_COST_MS = 60_000.0
TYPICAL_OF = 9
"""Inferences of which the median is what the next one costs."""
RECORDED = "recorded"


class Costs(NamedTuple):
    """Of a modality, in the order of time."""

    since_ns: Sequence[int]
    cost_ns: Sequence[int]


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
        if costs is None:
            return self.otherwise_ns
        return costs.cost_ns[max(bisect.bisect_right(costs.since_ns, now_ns) - 1, 0)]

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
    return EngineCost(costs={name: Costs((0,), (_cost_ns(value, text),)) for name, _, value in pairs})


def traced_cost(trace: FlightTrace, modalities: Mapping[str, str]) -> EngineCost:
    """Return what each inference of a flight took.

    Args:
        trace: of the flight.
        modalities: stream -> modality.
    """
    costs = {}
    for modality in {modalities[stream] for stream in trace.streams}:
        streams = [stream for stream in trace.streams if modalities[stream] == modality]
        turns = np.concatenate([trace.turns(stream) for stream in streams])
        costs[modality] = _typical(np.column_stack((turns[:, 1], turns[:, 2] - turns[:, 1])))
    return EngineCost(costs=costs)


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
    return EngineCost(costs={name: _typical(np.array(of_modality)) for name, of_modality in costs.items()})


def _typical(costs: NDArray[np.int64]) -> Costs:
    """Return for each time the median of the last few costs: one that was held up says nothing of the next.

    Args:
        costs: (inferences, 2): since when, and cost, in any order.
    """
    ordered = costs[np.lexsort((costs[:, 1], costs[:, 0]))]
    recent: deque[int] = deque(maxlen=TYPICAL_OF)
    typical = array("q")
    for cost_ns in array("q", ordered[:, 1].tobytes()):
        recent.append(cost_ns)
        typical.append(sorted(recent)[len(recent) // 2])
    return Costs(array("q", ordered[:, 0].tobytes()), typical)


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
