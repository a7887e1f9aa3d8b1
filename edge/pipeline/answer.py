"""The fusion head in flight: features and mask in, a `Classification` out."""

import logging
import math

import numpy as np
from numpy.typing import NDArray

from edge.backends.session import Session
from edge.clock import Clock
from edge.pipeline.alignment import Feature
from edge.pipeline.scheduler import NS_PER_MS, Pairing
from edge.transport.messages import NO_DATA, Classification, ModalityAnswer, Pose
from models.bundle import Manifest

log = logging.getLogger(__name__)

MAX_POSE_AGE_NS = 500 * NS_PER_MS
"""An answer carries the vehicle's pose if one is known within this time of its capture."""


class FusionHead:
    """Makes answers from pairings, and numbers them. Not thread-safe: the caller serialises."""

    def __init__(self, manifest: Manifest, engine: Session, clock: Clock, max_age_ms: float) -> None:
        self._spec = manifest.spec
        self._temperature = manifest.temperature
        self._engine = engine
        self._clock = clock
        self._max_age_ns = int(max_age_ms * NS_PER_MS)
        self._zeros = {name: np.zeros_like(array) for name, array in engine.inputs.items()}
        self._is_finite = True
        self.answers = 0
        self.pose: Pose | None = None
        """Newest known pose of the vehicle; set by whoever receives it."""

    def answer(self, pairing: Pairing) -> Classification | None:
        """Fuse a pairing; without a trigger the answer is NO_DATA. None where an input grew too old meanwhile,
        or what the head makes of it is not finite.
        """
        answer = self._answer(pairing)
        self.answers += answer is not None
        return answer

    def rehearse(self, pairing: Pairing) -> None:
        """Do all the work of `answer`, and forget it."""
        self._answer(pairing)

    def _answer(self, pairing: Pairing) -> Classification | None:
        trigger = pairing.trigger
        probs = self._fuse(pairing) if trigger is not None else None
        if trigger is not None and probs is None:
            return None
        now_ns = self._clock.now_ns()
        captures = [feature.capture_ns for feature in pairing.features if feature is not None]
        if captures and now_ns - min(captures) > self._max_age_ns:
            return None
        class_id = probs.index(max(probs)) if probs is not None else -1
        capture_ns = max(captures, default=now_ns)
        return Classification(
            sequence=self.answers + 1,
            capture_ns=capture_ns,
            answer_ns=now_ns,
            class_id=class_id,
            label=self._spec.classes[class_id] if probs is not None else NO_DATA,
            confidence=probs[class_id] if probs is not None else 0.0,
            probs=tuple(probs) if probs is not None else (),
            modalities=tuple(self._modality(n, pairing, now_ns) for n in range(len(self._spec.modalities))),
            skew_ms=(max(captures) - min(captures)) / NS_PER_MS if captures else 0.0,
            latency_ms=_latency(trigger, now_ns) if trigger is not None else {},
            pose=self._pose_at(capture_ns),
        )

    def _fuse(self, pairing: Pairing) -> list[float] | None:
        """Return the classes' probabilities; None where the head's outputs are not finite."""
        inputs = self._engine.inputs
        for n, (name, feature) in enumerate(zip(self._spec.modality_names, pairing.features, strict=True)):
            inputs[f"feature_{name}"][0] = feature.vector if feature else self._zeros[f"feature_{name}"][0]
            inputs[f"logits_{name}"][0] = feature.logits if feature else self._zeros[f"logits_{name}"][0]
            inputs["mask"][0, n] = 0.0 if feature is None else 1.0
        was_finite, self._is_finite = self._is_finite, self._engine.run()
        if not self._is_finite:
            if was_finite:
                log.warning("what the fusion head says is not finite, and left out: see what its features are made of")
            return None
        return _softmax(self._engine.outputs["logits"][0], self._temperature)

    def _modality(self, n: int, pairing: Pairing, now_ns: int) -> ModalityAnswer:
        feature, name = pairing.features[n], self._spec.modality_names[n]
        if feature is None:
            return ModalityAnswer(name=name, mask=0.0, reason=pairing.reasons[n])
        own = _softmax(feature.logits, 1.0)
        class_id = own.index(max(own))
        return ModalityAnswer(
            name=name,
            stream=feature.stream,
            mask=1.0,
            weight=float(self._engine.outputs["weights"][0, n]),
            entropy=float(self._engine.outputs["entropies"][0, n]),
            class_id=class_id,
            confidence=own[class_id],
            capture_ns=feature.capture_ns,
            age_ms=(now_ns - feature.capture_ns) / NS_PER_MS,
        )

    def _pose_at(self, capture_ns: int) -> Pose | None:
        pose = self.pose
        return pose if pose is not None and abs(pose.capture_ns - capture_ns) <= MAX_POSE_AGE_NS else None


def _softmax(logits: NDArray[np.float32], temperature: float) -> list[float]:
    """Return probabilities, in plain Python: for a few classes that takes half the time of NumPy's calls."""
    values: list[float] = logits.tolist()
    highest = max(values)
    powers = [math.exp((value - highest) / temperature) for value in values]
    total = sum(powers)
    return [power / total for power in powers]


def _latency(trigger: Feature, now_ns: int) -> dict[str, float]:
    """Return where the time went, from the source's send to this answer, by stage."""
    infer_ns = trigger.completed_ns - trigger.taken_ns - trigger.preprocess_ns
    stages = {
        "transport": trigger.arrived_ns - trigger.send_ns,
        "queue": trigger.taken_ns - trigger.arrived_ns,
        "preprocess": trigger.preprocess_ns,
        "infer": infer_ns,
        "fuse": now_ns - trigger.completed_ns,
        "total": now_ns - trigger.send_ns,
    }
    return {stage: round(duration_ns / NS_PER_MS, 4) for stage, duration_ns in stages.items()}
