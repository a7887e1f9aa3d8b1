import msgspec
import pytest
import torch
from training import IMAGE, IQ, Tones, tiny_network, tiny_spec

from models.errors import ConfigError
from trainer.methods.gradients import gradients_of
from trainer.methods.losses import compute_losses
from trainer.methods.mla import Mla, MlaConfig, without
from trainer.training.batches import BatchMaker

SAME_SIZE = (IQ, msgspec.structs.replace(IMAGE, feature_size=IQ.feature_size))


def set_up(fusion="entropy", **knobs):
    network = tiny_network(tiny_spec(fusion, SAME_SIZE))
    batches = BatchMaker(data=Tones(), spec=network.spec, seed=1, batch=12, modality_dropout=0.3, outlier_share=0.25)
    return network, Mla(network, 2, MlaConfig(**knobs)), batches


def train(network, method, batches, steps):
    """Train an epoch and return which parts moved in each step."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.01, weight_decay=0.1)
    method.begin_epoch(0, lambda count: [])
    moves = []
    for step in range(steps):
        before = {name: value.clone() for name, value in network.state_dict().items()}
        optimizer.zero_grad(set_to_none=True)
        method.backward(batches.training(0, step, 0.5))
        optimizer.step()
        changed = [name for name, value in network.state_dict().items() if not torch.equal(value, before[name])]
        moves.append({".".join(name.split(".")[:3]) for name in changed if "branches" in name})
    return moves


def heads_of(network):
    return [{**network.branch(name).head.state_dict()} for name in ("iq", "image")]


def test_batches_train_one_encoder_in_turn_and_the_shared_head_always():
    network, method, batches = set_up()
    heads = {"branches.iq.head", "branches.image.head"}
    first, second, third = train(network, method, batches, 3)
    assert first == third == heads | {"branches.iq.layers", "branches.iq.embed"}
    assert second == heads | {"branches.image.layers", "branches.image.embed"}


def test_heads_stay_one_to_the_last_bit():
    network, method, batches = set_up()
    train(network, method, batches, 5)
    first, second = heads_of(network)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_each_branch_gets_as_many_updates_as_in_joint_training():
    _, method, _ = set_up()
    assert method.epochs == 4


def test_projector_blocks_a_seen_direction_and_leaves_the_others():
    feature = torch.tensor([3.0, 4.0, 0.0])
    projector = without(torch.eye(3), feature, 0.1)
    torch.testing.assert_close(projector @ feature, feature * 0.1 / 25.1)
    across = torch.tensor([[-4.0, 3.0, 0.0], [0.0, 0.0, 1.0]])
    torch.testing.assert_close(across @ projector, across)
    torch.testing.assert_close(projector, projector.T)


def test_recursion_is_damped_least_squares():
    features = torch.randn(4, 3, generator=torch.Generator().manual_seed(1))
    projector = torch.eye(3)
    for feature in features:
        projector = without(projector, feature, 0.5)
    expected = torch.linalg.inv(torch.eye(3) + features.T @ features / 0.5)
    torch.testing.assert_close(projector, expected)


def test_head_learns_nothing_along_what_the_batch_before_showed():
    network, method, batches = set_up(alpha=1e-6)
    network.eval()  # the same features in every pass: no dropout, no statistics
    first, second = batches.training(0, 0, 0.0), batches.training(0, 1, 0.0)
    method.backward(first)
    network.zero_grad(set_to_none=True)
    losses = compute_losses(network, second)
    plain = gradients_of(losses.branches["image"], [network.branch("image").head.weight])[0]
    seen = compute_losses(network, first).answer.features["iq"].detach().mean(dim=0)
    method.backward(second)
    found = network.branch("image").head.weight.grad
    torch.testing.assert_close(found, plain @ without(torch.eye(8), seen, 1e-6))
    assert (plain @ seen).abs().max() > 1e-5
    assert (found @ seen).abs().max() < 1e-2 * (plain @ seen).abs().max()


def test_another_fusion_learns_beside_without_moving_the_encoders():
    network, method, batches = set_up("concat")
    network.eval()
    batch = batches.training(0, 0, 0.0)
    method.backward(batch)
    assert network.fusion.head.weight.grad is not None
    encoder = network.branch("iq").encoder_parameters()
    expected = gradients_of(compute_losses(network, batch).branches["iq"], encoder)
    for parameter, gradient in zip(encoder, expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


def test_features_of_differing_sizes_are_refused():
    with pytest.raises(ConfigError, match="feature_size is iq 8, image 6: expected one size"):
        Mla(tiny_network(tiny_spec()), 2, MlaConfig())
