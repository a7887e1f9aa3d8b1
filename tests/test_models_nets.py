import msgspec
import numpy as np
import pytest
import torch
from training import IMAGE, IQ, THERMAL, tiny_network, tiny_sizes, tiny_spec

from calibration.export import iemf_head
from edge.backends.iemf import iemf_fuse
from models.errors import ConfigError
from models.nets.fusion import build_fusion
from models.nets.multimodal import MultimodalNet
from models.nets.sizes import BranchSizes
from models.schema import parse_yaml
from models.spec import FusionSpec, ImageRecipe, IqRecipe, ModalitySpec

PARITY = 2e-6  # float32 against float64

FORMS = ["iemf", "concat", "sum", "gated", "entropy", "poe", "mean"]
MASKS = torch.tensor([[1.0, 1, 1], [1, 0, 1], [0, 0, 1], [0.3, 1, 0.6], [0, 0, 0]])


def inputs_for(spec, count):
    torch.manual_seed(7)
    return {one.name: torch.randn(count, *one.recipe.input_shape) for one in spec.modalities}


@pytest.mark.parametrize("method", FORMS)
@pytest.mark.parametrize("modalities", [(IQ, IMAGE), (IQ, IMAGE, THERMAL)])
def test_shapes_follow_the_spec_for_any_number_of_modalities(method, modalities):
    spec = tiny_spec(method, modalities)
    answer = tiny_network(spec)(inputs_for(spec, 4))
    assert answer.logits.shape == (4, 3)
    assert answer.weights.shape == answer.entropies.shape == (4, len(modalities))
    assert [tuple(f.shape) for f in answer.features.values()] == [(4, one.feature_size) for one in modalities]
    assert list(answer.branch_logits) == list(spec.modality_names)


def test_entropy_fusion_agrees_with_the_numpy_reference():
    spec = tiny_spec(modalities=(IQ, IMAGE, THERMAL))
    network = tiny_network(spec)
    with torch.no_grad():
        network.fusion.beta.copy_(torch.tensor([0.4, -0.2, 0.1]))
        network.fusion.temperatures.copy_(torch.tensor([0.5, 1.5, 3.0]))
        answer = network(inputs_for(spec, len(MASKS)), MASKS)
    head = iemf_head(network.fusion)
    for n, mask in enumerate(MASKS.numpy()):
        logits = np.stack([one[n].numpy() for one in answer.branch_logits.values()])
        fused = iemf_fuse([one[n].numpy() for one in answer.features.values()], logits, mask, head)
        found = (answer.logits, answer.weights, answer.entropies)
        for expected, one in zip(fused, found, strict=True):
            np.testing.assert_allclose(one[n].numpy(), expected, atol=PARITY)


@pytest.mark.parametrize("method", FORMS)
def test_masked_modality_cannot_change_the_answer(method):
    spec = tiny_spec(method)
    network = tiny_network(spec)
    inputs = inputs_for(spec, 3)
    mask = torch.tensor([[1.0, 0.0]]).repeat(3, 1)
    with torch.no_grad():
        before = network(inputs, mask)
        after = network({**inputs, "image": 100 * torch.randn_like(inputs["image"])}, mask)
    torch.testing.assert_close(after.logits, before.logits)
    torch.testing.assert_close(after.weights, torch.tensor([[1.0, 0.0]]).repeat(3, 1))


@pytest.mark.parametrize("method", FORMS)
def test_nothing_available_gives_weights_of_zero_and_finite_logits(method):
    spec = tiny_spec(method)
    with torch.no_grad():
        answer = tiny_network(spec)(inputs_for(spec, 2), torch.zeros(2, 2))
    assert (answer.weights == 0).all()
    assert torch.isfinite(answer.logits).all()


@pytest.mark.parametrize("method", FORMS)
def test_huge_logits_give_a_finite_answer(method):
    fusion = build_fusion(tiny_spec(method))
    logits = [torch.tensor([[1e4, -1e4, 0.0]], requires_grad=True), torch.zeros(1, 3)]
    outputs = fusion([torch.ones(1, 8), torch.ones(1, 6)], logits, torch.ones(1, 2))
    assert all(torch.isfinite(one).all() for one in outputs)


@pytest.mark.parametrize("method", ["concat", "sum", "gated", "entropy", "poe", "mean"])
def test_weights_are_shares_of_what_is_available(method):
    spec = tiny_spec(method, (IQ, IMAGE, THERMAL))
    with torch.no_grad():
        weights = tiny_network(spec)(inputs_for(spec, len(MASKS)), MASKS).weights
    torch.testing.assert_close(weights.sum(dim=1), torch.tensor([1.0, 1, 1, 1, 0]))
    assert (weights[MASKS == 0] == 0).all()


def test_sum_adds_projected_features_up():
    fusion = build_fusion(tiny_spec("sum"))
    features = [torch.randn(4, 8), torch.randn(4, 6)]
    mask = torch.tensor([[1.0, 1], [1, 0], [0, 1], [0.5, 1]])
    with torch.no_grad():
        fusion.bias.copy_(torch.linspace(-1, 1, 8))
        found, _, _ = fusion(features, [torch.zeros(4, 3)] * 2, mask)
        first, second = (projection.weight.T for projection in fusion.projections)
        summed = mask[:, :1] * (features[0] @ first) + mask[:, 1:] * (features[1] @ second)
        torch.testing.assert_close(found, fusion.head((summed + fusion.bias).clamp(min=0)))


def test_closed_gate_leaves_a_modality_without_weight():
    fusion = build_fusion(tiny_spec("gated"))
    features, logits = [torch.randn(4, 8), torch.randn(4, 6)], [torch.zeros(4, 3)] * 2
    with torch.no_grad():
        fusion.gates.weight.zero_()
        fusion.gates.bias.copy_(torch.tensor([0.0, -200.0]))
        found, weights, _ = fusion(features, logits, torch.ones(4, 2))
        expected = fusion.head(torch.cat([0.5 * features[0], torch.zeros(4, 6)], dim=1))
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(weights, torch.tensor([[1.0, 0.0]]).repeat(4, 1))


def test_product_of_experts_multiplies_their_probabilities():
    fusion = build_fusion(tiny_spec("poe"))
    first, second = torch.tensor([[0.5, 0.3, 0.2]]), torch.tensor([[0.1, 0.6, 0.3]])
    fused, _, _ = fusion([torch.zeros(1, 8), torch.zeros(1, 6)], [first.log() + 5, second.log()], torch.ones(1, 2))
    torch.testing.assert_close(fused.exp(), torch.tensor([[0.05, 0.18, 0.06]]))
    assert list(fusion.parameters()) == []


def test_mean_averages_the_probabilities_of_what_is_available():
    fusion = build_fusion(tiny_spec("mean"))
    first, second = torch.tensor([[0.5, 0.3, 0.2]]), torch.tensor([[0.1, 0.6, 0.3]])
    inputs = [torch.zeros(3, 8), torch.zeros(3, 6)], [(first.log() + 5).repeat(3, 1), second.log().repeat(3, 1)]
    fused, _, _ = fusion(*inputs, torch.tensor([[1.0, 1.0], [0.0, 1.0], [0.5, 0.25]]))
    expected = torch.tensor([[0.3, 0.45, 0.25], [0.1, 0.6, 0.3], [1.1 / 3, 0.4, 0.7 / 3]])
    torch.testing.assert_close(fused.exp(), expected)
    assert list(fusion.parameters()) == []


def test_entropy_weights_are_the_exponentials_of_what_is_certain():
    fusion = build_fusion(tiny_spec("entropy"))
    logits = [torch.tensor([[50.0, 0, 0]]), torch.tensor([[1.0, 1, 1]])]  # entropies 0 and log 3
    fused, weights, _ = fusion([torch.zeros(1, 8), torch.zeros(1, 6)], logits, torch.ones(1, 2))
    torch.testing.assert_close(weights, torch.tensor([[0.75, 0.25]]))
    torch.testing.assert_close(fused, torch.tensor([[37.75, 0.25, 0.25]]))


def test_degraded_expert_counts_with_its_mask_as_exponent():
    fusion = build_fusion(tiny_spec("poe"))
    probs = torch.tensor([[0.5, 0.3, 0.2]])
    fused, _, _ = fusion([torch.zeros(1, 8), torch.zeros(1, 6)], [probs.log()] * 2, torch.tensor([[0.5, 0.0]]))
    torch.testing.assert_close(fused.exp(), probs**0.5)


def test_huge_logits_give_no_nan():
    fusion = build_fusion(tiny_spec())
    features = [torch.zeros(1, 8), torch.zeros(1, 6)]
    logits = [torch.tensor([[1e4, -1e4, 0.0]]), torch.tensor([[0.0, 0.0, 0.0]])]
    _, weights, entropies = fusion(features, logits, torch.ones(1, 2))
    torch.testing.assert_close(entropies, torch.tensor([[0.0, 1.0]]))
    assert weights[0, 0] > weights[0, 1] >= 0.2


def test_temperatures_are_held_in_training():
    fusion = build_fusion(tiny_spec())
    assert "temperatures" in fusion.state_dict()
    assert "temperatures" not in dict(fusion.named_parameters())
    assert torch.equal(fusion.temperatures, torch.ones(2))


def test_entropy_carries_no_gradient_to_the_branches():
    spec = tiny_spec()
    fusion = build_fusion(spec)
    logits = [torch.randn(4, 3, requires_grad=True), torch.randn(4, 3, requires_grad=True)]
    _, weights, _ = fusion([torch.randn(4, 8), torch.randn(4, 6)], logits, torch.ones(4, 2))
    weights[:, 0].sum().backward()
    assert logits[0].grad is None
    assert fusion.beta.grad is not None


def test_equal_seeds_build_equal_networks():
    spec = tiny_spec()
    first, second = tiny_network(spec, 3).state_dict(), tiny_network(spec, 3).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_sizes_for_another_modality_are_refused():
    spec = tiny_spec()
    with pytest.raises(ConfigError, match="give each modality its sizes"):
        MultimodalNet(spec, {"iq": BranchSizes(widths=(4,), strides=(2,))})


def test_sizes_of_differing_lengths_are_refused_with_their_line():
    with pytest.raises(ConfigError, match="2 widths and 1 strides"):
        parse_yaml(b"widths: [4, 8]\nstrides: [2]\n", BranchSizes, "sizes.yaml")


@pytest.mark.parametrize(
    "recipe", [IqRecipe(window_samples=100, sample_rate_hz=1000), ImageRecipe(height_px=9, width_px=31)]
)
def test_odd_input_sizes_work(recipe):
    spec = tiny_spec(modalities=(ModalitySpec(name="odd", recipe=recipe, feature_size=4), IMAGE))
    network = MultimodalNet(spec, tiny_sizes(spec)).eval()
    assert network(inputs_for(spec, 1)).logits.shape == (1, 3)


@pytest.mark.parametrize(
    ("method", "hidden", "is_learned"), [("concat", 16, True), ("iemf", 16, True), ("concat", 0, False)]
)
def test_what_only_the_combination_tells_takes_a_hidden_layer(method, hidden, is_learned):
    torch.manual_seed(1)
    spec = msgspec.structs.replace(tiny_spec(method), fusion=FusionSpec(method=method, hidden=hidden))
    fusion = build_fusion(spec)
    first, second = torch.cartesian_prod(torch.arange(3), torch.arange(3)).T
    features = [torch.eye(one.feature_size)[place] for one, place in zip(spec.modalities, (first, second), strict=True)]
    labels = (first + second) % 3
    silent = [torch.zeros(9, 3), torch.zeros(9, 3)]
    optimizer = torch.optim.Adam(fusion.parameters(), 0.05)
    for _ in range(200):
        logits = fusion(features, silent, torch.ones(9, 2))[0]
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(logits, labels).backward()
        optimizer.step()
    right = int((logits.argmax(dim=1) == labels).sum())
    assert right == 9 if is_learned else right <= 5
