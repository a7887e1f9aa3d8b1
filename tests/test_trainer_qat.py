"""Quantization-aware training: the arithmetic of INT8, gradients through it, and the command."""

import msgspec
import numpy as np
import pytest
import torch
from training import IMAGE, IQ, Silent, Tones, run_config, tiny_network, tiny_spec

from models.errors import ConfigError
from models.nets.checkpoint import read_checkpoint
from models.nets.fake_quantization import fake_quantize, folded, largest_inputs, quantize_branches
from models.quantization import INT8_SYMMETRIC, affine, fake_quantize_weights, weight_axis
from models.quantization import fake_quantize as reference
from trainer.cli import main
from trainer.config import QatConfig
from trainer.evaluation.answers import NetworkModel
from trainer.evaluation.evaluate import evaluate
from trainer.training.loop import CHECKPOINT, Trainer, train
from trainer.training.qat import qat_config, qat_trainer
from trainer.training.resume import RESUME


def trained_statistics(network):
    """Give normalisation something to fold."""
    torch.manual_seed(3)
    network.train()
    for _ in range(4):
        network({one.name: torch.randn(8, *one.recipe.input_shape) * 2 + 1 for one in network.spec.modalities})
    return network.eval()


def inputs(network, count=16):
    torch.manual_seed(5)
    return {one.name: torch.randn(count, *one.recipe.input_shape) for one in network.spec.modalities}


def test_rounding_is_that_of_the_emitters():
    how = affine(-2.0, 3.0, INT8_SYMMETRIC)
    values = np.concatenate([np.linspace(-4, 4, 999), how.scale * (np.arange(-130, 130) + 0.5)]).astype(np.float32)
    found = fake_quantize(torch.from_numpy(values), torch.tensor(how.scale))
    np.testing.assert_array_equal(found.numpy(), reference(values, how))


def test_gradient_passes_the_rounding_and_stops_at_the_clip():
    values = torch.tensor([-3.0, -0.4, 0.26, 3.0], requires_grad=True)
    fake_quantize(values, torch.tensor(1 / 127)).sum().backward()
    assert values.grad.tolist() == [0, 1, 1, 0]


def test_quantized_branches_differ_from_float_by_a_few_steps_and_not_by_none():
    network = trained_statistics(tiny_network(tiny_spec()))
    given = inputs(network)
    with torch.no_grad():
        before = network(given)
        quantize_branches(network, [given])
        after = network(given)
    for name in network.spec.modality_names:
        difference = (before.features[name] - after.features[name]).abs().max()
        assert 0 < difference < 0.05 * before.features[name].abs().max()


@pytest.mark.parametrize("name", ["iq", "image"])
def test_a_convolution_over_few_channels_stays_float_and_the_next_is_rounded(name):
    network = trained_statistics(tiny_network(tiny_spec()))
    given = inputs(network)
    quantize_branches(network, [given])
    layers, quantized = network.branch(name).layers, network.branch(name).quantized
    first = torch.relu(layers[1](layers[0](given[name]))).detach()
    weight, bias = folded(layers[3], layers[4])
    peak = float(first.abs().max())
    seen = torch.from_numpy(reference(first.numpy(), affine(-peak, peak, INT8_SYMMETRIC)))
    rounded = torch.from_numpy(fake_quantize_weights(weight.detach().numpy(), weight_axis("Conv")))
    convolve = torch.nn.functional.conv1d if name == "iq" else torch.nn.functional.conv2d
    by_hand = torch.relu(convolve(seen, rounded, bias, 2, layers[3].padding))
    with torch.no_grad():
        found = quantized(given[name])
    step = peak / 127 * float(rounded.abs().max())
    assert (found - by_hand).abs().max() <= step
    assert (found - layers(given[name])).abs().max() > 0


def test_ranges_are_those_of_all_batches_together():
    network = trained_statistics(tiny_network(tiny_spec()))
    small, large = inputs(network), {name: 10 * one for name, one in inputs(network).items()}
    quantize_branches(network, [large])
    alone = network.branch("image").quantized._scales
    quantize_branches(network, [small, large, small])
    assert network.branch("image").quantized._scales == alone


def test_every_weight_of_a_quantized_branch_learns_and_its_statistics_stay():
    network = trained_statistics(tiny_network(tiny_spec()))
    given = inputs(network)
    quantize_branches(network, [given])
    statistics = network.branch("image").layers[1].running_mean.clone()
    network.train()
    network(given).logits.square().sum().backward()
    layers = network.branch("image").layers
    assert all(one.grad is not None and one.grad.abs().sum() > 0 for one in layers.parameters())
    assert torch.equal(layers[1].running_mean, statistics)


def spread(network):
    """Let one channel of each first layer dwarf the others, and what follows make up for it: the same function, but a
    range of which the other channels use a small part."""
    for name in network.spec.modality_names:
        layers = network.branch(name).layers
        with torch.no_grad():
            layers[1].weight[0] *= 500
            layers[1].bias[0] *= 500
            layers[3].weight[:, 0] /= 500


def test_training_with_rounding_mends_what_rounding_broke(tmp_path):
    modalities = (IQ, msgspec.structs.replace(IMAGE, feature_size=IQ.feature_size))
    config = run_config(tmp_path, epochs=12, qat=QatConfig(epochs=6, learning_rate=0.01), modalities=modalities)
    data = Tones()
    trainer = Trainer(config, data)
    train(trainer, Silent(), resume=False)
    spread(trainer.network)

    def accuracy(network):
        return evaluate(NetworkModel(network), data.validation_examples(), lambda done: None).accuracy

    exact = accuracy(trainer.network)
    continued = Trainer(qat_config(config), data)
    continued.network.load_state_dict(trainer.network.state_dict())
    quantize_branches(continued.network.eval(), [trainer.batches.probe(0).inputs])
    rounded = accuracy(continued.network)
    train(continued, Silent(), resume=False)
    mended = accuracy(continued.network)
    assert exact > 0.9
    assert rounded < exact - 0.1
    assert mended > rounded + 0.1


def test_largest_inputs_begin_with_the_input_itself():
    network = trained_statistics(tiny_network(tiny_spec()))
    given = inputs(network)
    found = largest_inputs(network.branch("iq"), given["iq"])
    assert found[0] == pytest.approx(float(given["iq"].abs().max()))
    assert len(found) == 2


def test_command_goes_on_from_the_checkpoint_and_can_itself_be_resumed(tmp_path, capsys):
    config = run_config(tmp_path / "run", epochs=2, qat=QatConfig(epochs=2))
    path = tmp_path / "run.yaml"
    path.write_bytes(msgspec.yaml.encode(config))
    assert main(["fit", "--config", str(path), "--qat"]) == 7
    assert "train without --qat first" in capsys.readouterr().err
    assert main(["fit", "--config", str(path)]) == 0
    assert main(["fit", "--config", str(path), "--qat"]) == 0
    first = read_checkpoint(tmp_path / "run" / "qat" / CHECKPOINT)
    assert first.header.reproduce[1].endswith("--qat")
    before = read_checkpoint(tmp_path / "run" / CHECKPOINT)
    assert not torch.equal(first.network.branch("iq").head.weight, before.network.branch("iq").head.weight)
    one_epoch = qat_trainer(config)
    one_epoch.run_epoch(Silent())
    one_epoch.save(tmp_path / "run" / "qat" / RESUME)
    assert main(["fit", "--config", str(path), "--qat", "--resume"]) == 0
    again = read_checkpoint(tmp_path / "run" / "qat" / CHECKPOINT)
    assert all(
        torch.equal(one, other)
        for one, other in zip(first.network.state_dict().values(), again.network.state_dict().values(), strict=True)
    )


def test_impossible_numbers_are_refused():
    with pytest.raises((ValueError, ConfigError), match="qat: expected epochs"):
        QatConfig(epochs=0)
