"""Training with fake quantization computes what the emitted graph computes."""

import numpy as np
import pytest
import torch
from training import tiny_network, tiny_spec

from calibration.export import export_graphs
from calibration.quantization.emit_int8 import emit_int8
from calibration.quantization.operators import tensors_to_calibrate, view
from calibration.quantization.quantize import plan_branch
from calibration.quantization.reference import run_reference
from calibration.session import Session
from models.nets.fake_quantization import quantize_branches

STEPS = 1.0
"""Of the feature's spread over 255: float sums in another order may round one activation to its neighbour."""


@pytest.fixture(scope="module")
def network():
    made = tiny_network(tiny_spec())
    torch.manual_seed(4)
    made.train()
    for _ in range(4):
        made({one.name: 2 * torch.randn(16, *one.recipe.input_shape) + 1 for one in made.spec.modalities})
    return made.eval()


@pytest.mark.parametrize("name", ["iq", "image"])
def test_fake_quantized_branch_answers_as_its_tensorrt_graph(network, name):
    inputs = {one.name: torch.randn(24, *one.recipe.input_shape) for one in network.spec.modalities}
    graph = view(export_graphs(network)["any"][name])
    exact = run_reference(graph, {"input": inputs[name].numpy()})
    table = {
        tensor: (-peak, peak) for tensor in tensors_to_calibrate(graph) for peak in [float(np.abs(exact[tensor]).max())]
    }
    plan = plan_branch(graph, "trt", table)
    emitted = Session(emit_int8(graph, plan).SerializeToString(), is_exact=True)
    quantize_branches(network, [inputs])
    with torch.no_grad():
        feature, logits = (one.numpy() for one in network.branch(name)(inputs[name]))
    for one in network.spec.modality_names:
        network.branch(one).quantized = None
    found = emitted.run({"input": inputs[name].numpy()})
    for output, value in (("feature", feature), ("logits", logits)):
        assert np.abs(found[output] - value).max() <= STEPS * np.ptp(value) / 255
        assert np.abs(exact[output] - value).max() > 0
