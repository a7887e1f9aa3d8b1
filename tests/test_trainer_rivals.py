"""What every rival method has in common; what each one computes has tests of its own."""

import re
from typing import get_args, get_type_hints

import msgspec
import pytest
import torch
from house import ROOT
from training import IMAGE, IQ, THERMAL, Tones, tiny_network, tiny_sizes, tiny_spec

from models.errors import ConfigError
from models.schema import parse_yaml
from models.spec import FusionSpec
from trainer.config import TrainConfig
from trainer.data.synthetic import Synthetic, SyntheticData
from trainer.methods.aux import AuxConfig
from trainer.methods.catalogue import MethodConfig, build_method
from trainer.methods.independent import IndependentConfig
from trainer.methods.joint import JointConfig
from trainer.methods.mla import MlaConfig
from trainer.methods.mmpareto import MmParetoConfig
from trainer.methods.ogm_ge import OgmGeConfig
from trainer.methods.pmr import PmrConfig
from trainer.methods.reconboost import ReconBoostConfig
from trainer.training.batches import BatchMaker
from trainer.training.loop import Trainer

MODALITIES = tuple(msgspec.structs.replace(one, feature_size=IQ.feature_size) for one in (IQ, IMAGE, THERMAL))
RIVALS = [
    IndependentConfig(),
    AuxConfig(),
    OgmGeConfig(),
    MmParetoConfig(),
    MlaConfig(),
    PmrConfig(),
    ReconBoostConfig(),
]


class Silent:
    """Looks on and says nothing."""

    def on_step(self, stage, epoch, done, report):
        pass

    def on_epoch(self, line):
        pass

    def on_evaluation(self, done):
        pass


def config(method, **changes):
    start = TrainConfig(
        description="test",
        out="unused",
        data=SyntheticData(),
        modalities=MODALITIES[:2],
        fusion=FusionSpec(method="concat"),
        sizes=tiny_sizes(tiny_spec()),
        method=method,
        epochs=3,
        examples_per_epoch=48,
        batch=16,
        learning_rate=0.01,
        seed=3,
    )
    return msgspec.structs.replace(start, **changes)


def kind(method):
    return msgspec.to_builtins(method)["kind"]


@pytest.mark.parametrize("method", [JointConfig(), OgmGeConfig(), PmrConfig()], ids=kind)
def test_outliers_move_nothing_where_no_loss_is_on_them(method):
    def after_a_step(outlier_share):
        network = tiny_network(tiny_spec("concat"))
        maker = BatchMaker(
            data=Tones(), spec=network.spec, seed=1, batch=12, modality_dropout=0.3, outlier_share=outlier_share
        )
        built = build_method(method, network, 3)
        built.begin_epoch(0, lambda count: [maker.probe(n) for n in range(count)])
        torch.manual_seed(1)  # of dropout and noise
        built.backward(maker.training(0, 0, 0.0))
        return {**network.state_dict(), **{name: one.grad for name, one in network.named_parameters()}}

    without, beside = after_a_step(0.0), after_a_step(0.5)
    assert [name for name in without if not torch.equal(without[name], beside[name])] == []


@pytest.mark.parametrize("method", RIVALS, ids=kind)
def test_a_rival_runs_an_epoch_of_the_synthetic_sites(method):
    run = config(method)
    trainer = Trainer(run, Synthetic(run.data, run.modalities))
    line = trainer.run_epoch(Silent())
    assert set(line["losses"]) == set(line["accuracies"]) == {"fused", "iq", "image"}


@pytest.mark.parametrize("method", RIVALS, ids=kind)
def test_a_rival_learns_what_both_sensors_show(method):
    trainer = Trainer(config(method, epochs=8, examples_per_epoch=256), Tones())
    while trainer.epoch < trainer.method.epochs:
        line = trainer.run_epoch(Silent())
    assert line["accuracies"]["fused"] >= 0.85  # a third of the examples lacks one of the sensors
    assert min(line["accuracies"]["iq"], line["accuracies"]["image"]) >= 0.75


@pytest.mark.parametrize("method", RIVALS, ids=kind)
def test_a_resumed_rival_ends_with_the_bits_of_an_uninterrupted_one(method, tmp_path):
    straight, stopped, resumed = (Trainer(config(method), Tones()) for _ in range(3))
    for _ in range(2):
        straight.run_epoch(Silent())
    stopped.run_epoch(Silent())
    stopped.save(tmp_path / "resume")
    resumed.load(tmp_path / "resume")
    resumed.run_epoch(Silent())
    first, second = straight.network.state_dict(), resumed.network.state_dict()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []
    assert resumed.method.state() == straight.method.state()


@pytest.mark.parametrize("fusion", ["concat", "sum", "gated", "iemf", "entropy", "poe", "mean"])
@pytest.mark.parametrize("method", RIVALS, ids=kind)
def test_a_rival_trains_three_modalities_with_any_fusion(method, fusion):
    network = tiny_network(tiny_spec(fusion, MODALITIES))
    batches = BatchMaker(
        data=ThreeSensors(), spec=network.spec, seed=1, batch=12, modality_dropout=0.3, outlier_share=0.25
    )
    built = build_method(method, network, 4)
    built.begin_epoch(0, lambda count: [batches.probe(n) for n in range(count)])
    for step in range(3):
        network.zero_grad(set_to_none=True)
        report = built.backward(batches.training(0, step, 0.0))
        gradients = [one.grad for one in network.parameters() if one.grad is not None]
        assert gradients
        assert all(torch.isfinite(one).all() for one in gradients)
        assert set(report.losses) == {"fused", "iq", "image", "thermal"}


class ThreeSensors(Tones):
    """A thermal camera beside: the same picture."""

    def training_example(self, rng, progress):
        example = super().training_example(rng, progress)
        example.sensors["thermal"] = example.sensors["image"]
        return example


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{kind: auxx}", "auxx"),
        ("{kind: aux, own_loss_weight: -1}", "expected 0 to 100"),
        ("{kind: ogm_ge, alpha: -1}", "expected alpha 0 to 10"),
        ("{kind: mmpareto, gamma: 0}", "expected above 0"),
        ("{kind: mla, alpha: 0}", "expected 1e-6 to 1e6"),
        ("{kind: reconboost, reconcilement: 2}", "expected reconcilement 0 to 1"),
        ("{kind: pmr, entropy_share: 2}", "entropy_share 0 to 1"),
    ],
)
def test_an_impossible_knob_is_refused(text, message):
    with pytest.raises(ConfigError, match=message):
        parse_yaml(text.encode(), MethodConfig, "method.yaml")


def documented(pattern):
    return dict(re.findall(pattern, (ROOT / "docs/methods.md").read_text(), re.MULTILINE))


def test_every_method_is_documented_with_the_epochs_that_it_runs():
    network = tiny_network(tiny_spec("concat", MODALITIES[:2]))
    configs = {kind(config()): config() for config in get_args(MethodConfig)}
    epochs = {name: str(build_method(config, network, 20).epochs) for name, config in configs.items()}
    assert documented(r"^\| `(\w+)` \|.*\| (\d+) \|$") == epochs


def test_every_fusion_form_is_documented_with_whether_it_learns():
    forms = get_args(get_type_hints(FusionSpec)["method"])
    learns = {form: bool(list(tiny_network(tiny_spec(form)).fusion.parameters())) for form in forms}
    said = documented(r"^\| `(\w+)` \| .* \| ([a-z][^|]*) \|$")
    assert {form: text != "nothing" for form, text in said.items()} == learns
