"""The fusion head in flight: what an answer says of itself."""

import dataclasses

import msgspec
import numpy as np
import pytest

from edge.backends.onnx import load_engines
from edge.clock import VirtualClock
from edge.pipeline.alignment import Feature
from edge.pipeline.answer import FusionHead
from edge.pipeline.scheduler import Pairing
from models.bundle import open_bundle, shipped_bundle

NOW_NS = 50_000_000


@pytest.fixture(scope="module")
def head() -> FusionHead:
    bundle = open_bundle(shipped_bundle())
    return FusionHead(bundle.manifest, load_engines(bundle).fusion, VirtualClock(NOW_NS), 300.0)


def feature(head: FusionHead, name: str, logits: np.ndarray) -> Feature:
    return Feature(
        modality=name,
        stream=f"{name}-1",
        capture_ns=10_000_000,
        send_ns=20_000_000,
        arrived_ns=21_000_000,
        taken_ns=22_000_000,
        preprocess_ns=1_000_000,
        completed_ns=48_000_000,
        vector=np.zeros_like(head._engine.inputs[f"feature_{name}"][0]),
        logits=logits,
    )


@pytest.mark.parametrize("scale", [0.0, 1.0, 1e4])
def test_probabilities_are_the_softmax_of_the_logits_however_large(head: FusionHead, scale: float) -> None:
    classes = head._engine.outputs["logits"].shape[1]
    logits = (scale * np.random.default_rng(3).normal(size=classes)).astype(np.float32)
    trigger = feature(head, "iq", logits)
    answer = head.answer(Pairing(trigger=trigger, features=(trigger, None), reasons=("", "silent")))
    assert sum(answer.probs) == pytest.approx(1.0, abs=1e-12)
    assert answer.confidence == max(answer.probs) == answer.probs[answer.class_id]
    shifted = logits.astype(np.float64) - logits.max()
    expected = np.exp(shifted) / np.exp(shifted).sum()
    assert answer.modalities[0].confidence == pytest.approx(expected.max(), rel=1e-12)
    assert answer.modalities[0].class_id == int(np.argmax(expected))


def test_what_the_head_cannot_make_finite_is_left_out_and_told_once(head: FusionHead, caplog) -> None:
    classes = head._engine.outputs["logits"].shape[1]
    sound = feature(head, "iq", np.zeros(classes, np.float32))
    broken = dataclasses.replace(sound, vector=np.full_like(sound.vector, np.inf))
    answered = head.answers
    for trigger in (broken, broken):
        assert head.answer(Pairing(trigger=trigger, features=(trigger, None), reasons=("", "silent"))) is None
    assert head.answers == answered
    assert [record.message.startswith("what the fusion head says is not finite") for record in caplog.records] == [True]
    assert head.answer(Pairing(trigger=sound, features=(sound, None), reasons=("", "silent"))) is not None


def test_the_temperature_of_the_bundle_softens_the_fused_answer_alone() -> None:
    bundle = open_bundle(shipped_bundle())
    answers = []
    for temperature in (1.0, 2.0):
        manifest = msgspec.structs.replace(bundle.manifest, temperature=temperature)
        head = FusionHead(manifest, load_engines(bundle).fusion, VirtualClock(NOW_NS), 300.0)
        logits = np.linspace(-2, 3, len(bundle.spec.classes)).astype(np.float32)
        trigger = feature(head, "iq", logits)
        answers.append(head.answer(Pairing(trigger=trigger, features=(trigger, None), reasons=("", "silent"))))
    plain, soft = answers
    expected = np.sqrt(plain.probs) / np.sqrt(plain.probs).sum()
    assert soft.probs == pytest.approx(expected, rel=1e-9)
    assert soft.confidence < plain.confidence
    assert soft.class_id == plain.class_id
    assert soft.modalities == plain.modalities


def test_stages_add_up_to_the_total(head: FusionHead) -> None:
    classes = head._engine.outputs["logits"].shape[1]
    trigger = feature(head, "iq", np.zeros(classes, np.float32))
    stages = dict(head.answer(Pairing(trigger=trigger, features=(trigger, None), reasons=("", "silent"))).latency_ms)
    total_ms = stages.pop("total")
    assert total_ms == 30.0
    assert sum(stages.values()) == pytest.approx(total_ms)


def test_without_a_trigger_there_is_no_class_and_no_latency(head: FusionHead) -> None:
    answer = head.answer(Pairing(trigger=None, features=(None, None), reasons=("silent", "black")))
    assert (answer.class_id, answer.label, answer.confidence, answer.probs) == (-1, "NO_DATA", 0.0, ())
    assert answer.latency_ms == {}
    assert answer.capture_ns == NOW_NS
    assert [modality.reason for modality in answer.modalities] == ["silent", "black"]


def test_an_input_that_grew_too_old_on_the_way_gives_no_answer_and_no_number() -> None:
    bundle = open_bundle(shipped_bundle())
    late = FusionHead(bundle.manifest, load_engines(bundle).fusion, VirtualClock(NOW_NS), 39.9)
    old = feature(late, "iq", np.zeros(len(bundle.spec.classes), np.float32))
    pairing = Pairing(trigger=old, features=(old, None), reasons=("", "silent"))
    assert late.answer(pairing) is None
    assert late.answers == 0
