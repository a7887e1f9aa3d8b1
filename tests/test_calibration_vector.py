"""A model with a modality that is a row of numbers becomes a bundle like any other."""

import onnx
import torch
from training import IQ, tiny_spec

from calibration.export import MAX_DIFFERENCE, Release, export_bundle
from edge.backends.golden import check_golden
from edge.backends.onnx import load_engines
from models.bundle import open_bundle
from models.nets.checkpoint import Checkpoint, CheckpointHeader, read_checkpoint, write_checkpoint
from models.nets.multimodal import MultimodalNet
from models.nets.sizes import BranchSizes
from models.spec import ModalitySpec, VectorRecipe

BANDS = ModalitySpec(name="bands", recipe=VectorRecipe(values=5, mean=(0.1,), std=(0.3,)), feature_size=6)
SIZES = {"iq": BranchSizes(widths=(4, 6), strides=(2, 2)), "bands": BranchSizes(widths=(8, 6), strides=(1, 1))}


def test_vector_branch_is_exported_with_its_recipe_and_answers_as_torch_did(tmp_path):
    spec = tiny_spec(modalities=(IQ, BANDS))
    torch.manual_seed(2)
    network = MultimodalNet(spec, SIZES).train()
    golden = {one.name: torch.randn(4, *one.recipe.input_shape) for one in spec.modalities}
    network(golden)  # moves the normalisation's statistics away from 0 and 1
    header = CheckpointHeader(spec=spec, sizes=SIZES, description="", licence="", reproduce=(), metrics={}, tools={})
    write_checkpoint(tmp_path / "c.safetensors", Checkpoint(header=header, network=network.eval(), golden=golden))
    release = Release(name="rows", version=1, command="")
    path, difference = export_bundle(read_checkpoint(tmp_path / "c.safetensors"), release, tmp_path)
    assert difference < MAX_DIFFERENCE
    bundle = open_bundle(path)
    assert bundle.spec.modality("bands") == BANDS
    assert check_golden(bundle, load_engines(bundle)) < MAX_DIFFERENCE
    graph = onnx.load_from_string(bundle.graph("bands", batch="any")).graph
    shape = graph.input[0].type.tensor_type.shape.dim
    assert (bool(shape[0].dim_param), shape[1].dim_value, shape[2].dim_value) == (True, 5, 1)
    assert not any(node.op_type == "BatchNormalization" for node in graph.node)
