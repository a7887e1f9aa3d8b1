import pytest
import torch
from training import Tones, tiny_network, tiny_spec

from trainer.answers import NetworkModel
from trainer.asking import ask
from trainer.confidence import fit_temperature


def calibrated(fusion):
    """Return a model calibrated on tones, what its branches said, and what it had fused before."""
    model = NetworkModel(tiny_network(tiny_spec(fusion)))
    asked = ask(model, Tones().validation_examples(), lambda done: None)
    before = model.fuse(asked.branches, asked.present).logits
    model.calibrate(asked)
    return model, asked, before


def test_branches_of_an_entropy_fusion_are_calibrated_before_the_fused_answer():
    model, asked, before = calibrated("iemf")
    own = [fit_temperature(asked.branches[name][1], asked.labels) for name in ("iq", "image")]
    torch.testing.assert_close(model.network.fusion.temperatures, torch.tensor(own))
    fused = model.fuse(asked.branches, asked.present).logits
    assert abs(fused - before).max() > 1e-3
    assert model.temperature == pytest.approx(fit_temperature(fused, asked.labels))


def test_a_modality_that_no_example_has_keeps_its_temperature():
    model = NetworkModel(tiny_network(tiny_spec()))
    asked = ask(model, Tones().validation_examples(), lambda done: None)
    asked.present[:, 1] = 0
    model.calibrate(asked)
    assert model.network.fusion.temperatures[0] != 1
    assert model.network.fusion.temperatures[1] == 1


def test_other_fusion_forms_have_the_temperature_of_the_fused_answer_alone():
    model, asked, before = calibrated("concat")
    assert (model.fuse(asked.branches, asked.present).logits == before).all()
    assert model.temperature == pytest.approx(fit_temperature(before, asked.labels))
