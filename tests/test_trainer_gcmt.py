import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from training import IMAGE, IQ, THERMAL, Tones, tiny_network, tiny_spec

from trainer.methods.gcmt import Gcmt, GcmtConfig, plan_stages
from trainer.methods.gradients import add, consistent_sum, cosine, dot, gradients_of
from trainer.methods.joint import Joint
from trainer.methods.losses import compute_losses, doubt_loss
from trainer.training.batches import BatchMaker, draw_mask

FLOAT_ROUNDING = 1e-4

vectors = st.lists(st.floats(-10, 10, width=32), min_size=3, max_size=3).map(torch.tensor)


def maker(spec):
    return BatchMaker(data=Tones(), spec=spec, seed=1, batch=12, modality_dropout=0.3, outlier_share=0.25)


def moved(network, train):
    """Train, then say of which parts of the network weights or statistics changed."""
    before = {name: value.clone() for name, value in network.state_dict().items()}
    train()
    changed = [name for name, value in network.state_dict().items() if not torch.equal(value, before[name])]
    return {".".join(name.split(".")[:2]) if name.startswith("branches") else "fusion" for name in changed}


def train_epoch(network, method, epoch):
    batches = maker(network.spec)
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.01, weight_decay=0.1)

    def train():
        method.begin_epoch(epoch, lambda count: [batches.probe(n) for n in range(count)])
        for step in range(3):
            optimizer.zero_grad(set_to_none=True)
            method.backward(batches.training(epoch, step, 0.5))
            optimizer.step()

    return moved(network, train)


def test_alternating_epochs_count_twice_and_stages_follow_each_other():
    stages = plan_stages(20, 2)
    assert (stages.warm_up, stages.alternate, stages.refit, stages.consolidate) == (4, 24, 25, 31)
    shortest = plan_stages(1, 2)
    assert shortest.warm_up < shortest.refit < shortest.consolidate


def test_budget_is_spent_by_updates_of_branches():
    method = Gcmt(tiny_network(tiny_spec()), 20, GcmtConfig())
    assert [method.spent(epoch) for epoch in (0, 4, 14, 24, 25, 31)] == pytest.approx([0, 0.2, 0.45, 0.7, 0.7, 1])
    three = Gcmt(tiny_network(tiny_spec(modalities=(IQ, IMAGE, THERMAL))), 20, GcmtConfig())
    assert three.epochs == 4 + 3 * 10 + 1 + 6
    assert three.spent(three.epochs) == pytest.approx(1)


@pytest.mark.parametrize("epoch", [0, 29])
def test_warm_up_and_consolidation_train_everything(epoch):
    network = tiny_network(tiny_spec())
    assert train_epoch(network, Gcmt(network, 20, GcmtConfig()), epoch) == {"branches.iq", "branches.image", "fusion"}


def test_alternation_holds_the_other_branch_to_the_last_bit():
    network = tiny_network(tiny_spec())
    method = Gcmt(network, 20, GcmtConfig(selector="turns"))
    assert train_epoch(network, method, 4) == {"branches.iq", "fusion"}
    assert train_epoch(network, method, 6) == {"branches.image", "fusion"}


def test_branch_just_trained_is_held_despite_the_optimizers_memory():
    network = tiny_network(tiny_spec())
    method = Gcmt(network, 20, GcmtConfig(selector="turns", max_stay=1, round_epochs=1))
    batches = maker(network.spec)
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.01, weight_decay=0.1)
    method.backward(batches.training(0, 0, 0.0))
    optimizer.step()

    def train():
        method.begin_epoch(4, lambda count: [batches.probe(n) for n in range(count)])
        optimizer.zero_grad(set_to_none=True)
        method.backward(batches.training(4, 0, 0.0))
        optimizer.step()

    assert moved(network, train) == {"branches.iq", "fusion"}


def test_refit_trains_the_fusion_head_alone():
    network = tiny_network(tiny_spec())
    assert train_epoch(network, Gcmt(network, 20, GcmtConfig()), 24) == {"fusion"}


def gradients_in(epoch, least_cosine):
    network = tiny_network(tiny_spec())
    method = Gcmt(network, 20, GcmtConfig(selector="turns", least_cosine=least_cosine))
    batches = maker(network.spec)
    method.begin_epoch(epoch, lambda count: [batches.probe(n) for n in range(count)])
    network.eval()
    method.backward(batches.training(0, 0, 0.0))
    return {name: parameter.grad for name, parameter in network.named_parameters()}


@pytest.mark.parametrize(("epoch", "moved"), [(4, {"iq"}), (29, {"iq", "image"})])
def test_without_a_least_cosine_the_gradients_are_the_plain_sum(epoch, moved):
    found, expected = gradients_in(epoch, -1.0), gradients_in(epoch, -0.999999)
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name])
    assert {name.split(".")[1] for name, one in found.items() if one is not None and "branches" in name} == moved


@pytest.mark.parametrize("least_cosine", [-1.0, 0.0])
def test_refit_of_a_fusion_without_weights_moves_nothing(least_cosine):
    network = tiny_network(tiny_spec("poe"))
    assert train_epoch(network, Gcmt(network, 20, GcmtConfig(least_cosine=least_cosine)), 24) == set()


def test_probe_changes_nothing():
    network = tiny_network(tiny_spec())
    method = Gcmt(network, 20, GcmtConfig())
    batches = maker(network.spec)
    assert (
        moved(network, lambda: method.begin_epoch(4, lambda count: [batches.probe(n) for n in range(count)])) == set()
    )
    assert set(method.selection.consistency) == {"iq", "image"}
    assert all(-1 <= value <= 1 for value in method.selection.consistency.values())


def select(method, consistency, accuracy):
    method.selection.consistency = consistency
    method.selection.accuracy = accuracy
    method._select()
    return method.selection.active


@pytest.mark.parametrize(("selector", "chosen"), [("consistent", "image"), ("lag", "iq"), ("turns", "iq")])
def test_selector_picks_by_its_criterion(selector, chosen):
    method = Gcmt(tiny_network(tiny_spec()), 20, GcmtConfig(selector=selector))
    assert select(method, {"iq": 0.2, "image": 0.9}, {"iq": 0.3, "image": 0.8}) == chosen


def test_branch_stays_no_longer_than_max_stay():
    method = Gcmt(tiny_network(tiny_spec()), 20, GcmtConfig(max_stay=2))
    scores = ({"iq": 0.2, "image": 0.9}, {"iq": 0.3, "image": 0.8})
    assert [select(method, *scores) for _ in range(4)] == ["image", "image", "iq", "image"]


def test_hopeless_branch_is_no_longer_picked():
    method = Gcmt(tiny_network(tiny_spec()), 20, GcmtConfig(selector="lag", max_stay=9))
    scores = ({"iq": 0.2, "image": 0.9}, {"iq": 0.14, "image": 0.8})
    for _ in range(2):
        assert select(method, *scores) == "iq"
        method._judge_last_round("iq", 0.142)
    assert select(method, *scores) == "image"


def test_every_selection_is_kept_with_what_was_measured_and_why():
    network = tiny_network(tiny_spec())
    method = Gcmt(network, 20, GcmtConfig(probe_batches=2))
    batches = maker(network.spec)
    method.backward(batches.training(0, 0, 0.0))
    assert method.selection.decision is None
    method.begin_epoch(4, lambda count: [batches.probe(n) for n in range(count)])
    decision = method.state()["decision"]
    assert (decision["epoch"], decision["steps"], decision["chosen"]) == (4, 1, method.selection.active)
    assert decision["consistency"] == decision["average_consistency"] == method.selection.consistency
    assert set(decision["accuracy"]) == set(decision["gradient_ratio"]) == {"iq", "image"}
    assert decision["candidates"] == ("iq", "image")
    assert decision["why"] == "most consistent gradients"
    method.begin_epoch(5, lambda count: pytest.fail("a round asks once"))
    assert method.state()["decision"] == decision


def test_reason_of_a_selection_names_who_could_not_be_picked():
    method = Gcmt(tiny_network(tiny_spec()), 20, GcmtConfig(selector="lag", max_stay=2))
    method.selection.accuracy = {"iq": 0.2, "image": 0.9}
    assert [method._select() for _ in range(3)] == [
        (("iq", "image"), "least accurate"),
        (("iq", "image"), "least accurate"),
        (("image",), "the only one left; iq stayed 2 rounds: rested"),
    ]
    method.selection.fruitless["iq"] = 2
    assert method._select() == (("image",), "the only one left; iq barred: 2 fruitless rounds")


def test_steps_report_the_cosines_of_the_branches_that_learn():
    network = tiny_network(tiny_spec())
    method, batch = Gcmt(network, 20, GcmtConfig(selector="turns")), maker(network.spec).training(0, 0, 0.0)
    probe = lambda count: [maker(network.spec).probe(n) for n in range(count)]  # noqa: E731
    seen = {}
    for epoch in (0, 4, 24, 29):
        stage = method.begin_epoch(epoch, probe)
        seen[stage] = method.backward(batch).cosines
    assert {stage: sorted(cosines) for stage, cosines in seen.items()} == {
        "warm-up": [],
        "alternate:iq": ["iq"],
        "refit": [],
        "consolidate": ["image", "iq"],
    }
    assert all(-1 <= value <= 1 for cosines in seen.values() for value in cosines.values())


def test_state_survives_a_round_trip():
    method, other = (Gcmt(tiny_network(tiny_spec()), 20, GcmtConfig()) for _ in range(2))
    select(method, {"iq": 0.2, "image": 0.9}, {"iq": 0.3, "image": 0.8})
    other.restore(method.state())
    assert other.selection == method.selection


@given(vectors, vectors)
def test_conflicting_gradient_loses_its_part_along_the_own_one(fused, own):
    result, agreement = consistent_sum([fused], [own], 0.0)
    if agreement >= 0:
        assert torch.equal(result[0], fused + own)
    elif dot([own], [own]) > 1e-3:
        assert dot(result, [own]) == pytest.approx(dot([own], [own]), rel=1e-3, abs=FLOAT_ROUNDING)


def test_missing_gradients_count_as_zero():
    some = torch.tensor([1.0, 2.0])
    assert add([None, some], [None, None]) == [None, some]
    assert dot([None], [some]) == 0
    assert cosine([None], [some]) == 0


def test_joint_training_moves_encoders_by_the_fused_loss_alone():
    network = tiny_network(tiny_spec("concat"))
    batch = maker(network.spec).training(0, 0, 0.0)
    Joint(network, 1).backward(batch)
    encoder = network.branch("iq").encoder_parameters()
    found = [parameter.grad.clone() for parameter in encoder]
    assert network.branch("iq").head.weight.grad is not None
    expected = gradients_of(compute_losses(network, batch).fused, encoder)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize(("consistency", "share"), [(0.6, 0.6), (-0.4, 0.0)])
def test_own_losses_count_as_far_as_their_gradients_agree_with_the_fused_one(consistency, share):
    network = tiny_network(tiny_spec())
    config = GcmtConfig(own_loss="consistent", own_loss_weight=2.0, least_cosine=-1.0)
    method = Gcmt(network, 20, config)
    batches = maker(network.spec)
    method.begin_epoch(0, lambda count: [batches.probe(n) for n in range(count)])
    assert set(method.selection.consistency) == {"iq", "image"}
    method.selection.consistency = {"iq": consistency, "image": 1.0}
    network.eval()
    batch = batches.training(0, 0, 0.0)
    method.backward(batch)
    encoder = network.branch("iq").encoder_parameters()
    found = [parameter.grad.clone() for parameter in encoder]
    losses = compute_losses(network, batch)
    fused, own = gradients_of(losses.fused, encoder), gradients_of(losses.branches["iq"], encoder)
    for one, f, o in zip(found, fused, own, strict=True):
        torch.testing.assert_close(one, f + 2.0 * share * o)


def test_measuring_between_rounds_judges_no_round():
    network = tiny_network(tiny_spec())
    method = Gcmt(network, 20, GcmtConfig(own_loss="consistent", selector="turns", round_epochs=2))
    batches = maker(network.spec)
    for epoch in range(4, 10):
        method.begin_epoch(epoch, lambda count: [batches.probe(n) for n in range(count)])
    assert method.selection.fruitless == {"iq": 1, "image": 1}  # nobody was trained: each of two rounds brought nothing


def test_doubt_is_free_of_loss_only_when_uniform():
    assert doubt_loss(torch.zeros(4, 3)).item() == pytest.approx(0, abs=1e-6)
    assert doubt_loss(torch.tensor([[5.0, 0.0, 0.0]])).item() > 1
    assert doubt_loss(torch.zeros(0, 3)).item() == 0


def test_modality_dropout_leaves_every_row_a_modality():
    mask = draw_mask((4000, 3), 0.3, np.random.default_rng(1))
    assert mask.sum(axis=1).min() == 2
    assert (mask.sum(axis=1) == 2).mean() == pytest.approx(0.3, abs=0.03)
    assert (mask == 0).mean(axis=0) == pytest.approx([0.1] * 3, abs=0.02)


def test_equal_places_in_a_run_give_equal_batches():
    batches = maker(tiny_spec())
    first, second, later = batches.training(1, 2, 0.5), batches.training(1, 2, 0.5), batches.training(1, 3, 0.5)
    assert torch.equal(first.inputs["iq"], second.inputs["iq"])
    assert torch.equal(first.outliers["image"], second.outliers["image"])
    assert not torch.equal(first.inputs["iq"], later.inputs["iq"])
