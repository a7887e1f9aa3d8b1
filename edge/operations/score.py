"""Answers held against what was really there, and accounting as plain data."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from edge.transport.messages import Classification, StreamAccounting
from edge.transport.truths import TruthTimeline


def score(answers: Iterable[Classification], truths: TruthTimeline) -> dict[str, Any]:
    """Return shares of right answers: fused, and of each modality alone where it took part.

    NO_DATA counts as wrong; answers whose truth is unknown do not count.

    Returns:
        `accuracy`, `accuracy_<modality>` in 0..1 (null where nothing was scored), and `scored`, the number of answers.
    """
    fused: list[bool] = []
    alone: dict[str, list[bool]] = {}
    for answer in answers:
        truth = truths.at(answer.capture_ns)
        for modality in answer.modalities:
            rights = alone.setdefault(modality.name, [])
            if truth is not None and modality.class_id >= 0:
                rights.append(modality.class_id == truth.class_id)
        if truth is not None:
            fused.append(answer.class_id == truth.class_id)
    shares = {f"accuracy_{name}": _share(rights) for name, rights in sorted(alone.items())}
    return {"accuracy": _share(fused), **shares, "scored": len(fused)}


def latency_summary(answers: Iterable[Classification]) -> dict[str, dict[str, float]]:
    """Return p50 and p99 in ms of the time from a sensor's send to the answer, by the modalities that went in."""
    totals: dict[str, list[float]] = {}
    for answer in answers:
        if "total" in answer.latency_ms:
            names = "+".join(modality.name for modality in answer.modalities if modality.mask > 0)
            totals.setdefault(names, []).append(answer.latency_ms["total"])
    return {
        names: {"p50": round(float(np.percentile(values, 50)), 3), "p99": round(float(np.percentile(values, 99)), 3)}
        for names, values in sorted(totals.items())
    }


def _share(rights: list[bool]) -> float | None:
    return round(sum(rights) / len(rights), 4) if rights else None


def accounting_summary(streams: dict[str, StreamAccounting]) -> dict[str, dict[str, Any]]:
    """Return every stream's ledger as plain data: counts, `rejected` in sum and by reason, and whether it balances."""
    return {
        name: {
            "received": stream.received,
            "processed": stream.processed,
            "superseded": stream.superseded,
            "dropped_late": stream.dropped_late,
            "gathered": stream.gathered,
            "restarted_windows": stream.restarted_windows,
            "shed": stream.shed,
            "rejected": sum(stream.rejected.values()),
            "rejected_by_reason": stream.rejected,
            "in_flight": stream.in_flight,
            "lost_transport": stream.lost_transport,
            "balanced": stream.balanced,
        }
        for name, stream in streams.items()
    }
