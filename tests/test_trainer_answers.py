import numpy as np
import pytest
import torch
from training import tiny_network, tiny_spec

from trainer.evaluation.answers import NetworkModel
from trainer.evaluation.asking import Asked
from trainer.evaluation.confidence import fit_temperature, log_softmax


def drawn(examples, rng):
    """Return labels and logits whose softmax is exactly how likely each of three classes is."""
    logits = rng.normal(0, 2, (examples, 3)).astype(np.float32)
    return logits, np.array([rng.choice(3, p=row) for row in np.exp(log_softmax(logits))])


def asked_of(spec, logits, labels, present=(1, 1)):
    return Asked(
        labels=labels,
        branches={
            one.name: (np.zeros((len(labels), one.feature_size), np.float32), logits[one.name])
            for one in spec.modalities
        },
        present=np.tile(np.float32(present), (len(labels), 1)),
        quality={},
    )


def calibrated(fusion, present=(1, 1)):
    """Return a model calibrated on an honest image branch and a radio that is sure of noise, and what both said."""
    model = NetworkModel(tiny_network(tiny_spec(fusion)))
    rng = np.random.default_rng(4)
    logits, labels = drawn(400, rng)
    noise = 20 * rng.normal(0, 1, logits.shape).astype(np.float32)
    asked = asked_of(model.spec, {"iq": noise, "image": logits}, labels, present)
    model.calibrate(asked)
    return model, asked


def test_branches_of_an_entropy_fusion_are_calibrated_before_the_fused_answer():
    model, asked = calibrated("iemf")
    own = [fit_temperature(asked.branches[name][1], asked.labels) for name in ("iq", "image")]
    assert own[0] > 10 * own[1]
    torch.testing.assert_close(model.network.fusion.temperatures, torch.tensor(own))
    fused = model.fuse(asked.branches, asked.present)
    assert model.temperature == pytest.approx(fit_temperature(fused.logits, asked.labels))
    assert fused.weights[:, 1].mean() > 0.5  # untempered, the sure one would win


def test_temperatures_that_make_the_truth_less_likely_are_not_kept(monkeypatch):
    monkeypatch.setattr("trainer.evaluation.answers.fit_temperatures", lambda logits, truth: {"iq": 0.01, "image": 1.0})
    model, asked = calibrated("iemf")
    assert model.network.fusion.temperatures.tolist() == [1, 1]
    fused = model.fuse(asked.branches, asked.present).logits
    assert model.temperature == pytest.approx(fit_temperature(fused, asked.labels))


def test_a_modality_that_no_example_has_keeps_its_temperature():
    model, _ = calibrated("iemf", present=(1, 0))
    assert model.network.fusion.temperatures[0] > 5
    assert model.network.fusion.temperatures[1] == 1


def test_other_fusion_forms_have_the_temperature_of_the_fused_answer_alone():
    model, asked = calibrated("poe")
    fused = model.fuse(asked.branches, asked.present).logits
    assert model.temperature == pytest.approx(fit_temperature(fused, asked.labels))
