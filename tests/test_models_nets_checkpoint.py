import pytest
import torch
from training import IMAGE, IQ, THERMAL, tiny_network, tiny_sizes, tiny_spec

from models.errors import InputError
from models.nets.checkpoint import (
    Checkpoint,
    CheckpointHeader,
    load_weights,
    read_checkpoint,
    write_checkpoint,
    write_tensors,
)


def checkpoint(spec):
    header = CheckpointHeader(
        spec=spec,
        sizes=tiny_sizes(spec),
        description="test",
        licence="Apache-2.0",
        reproduce=("uav-train fit --config x.yaml",),
        metrics={"accuracy": 0.5},
        tools={"torch": "0"},
    )
    golden = {one.name: torch.randn(2, *one.recipe.input_shape) for one in spec.modalities}
    return Checkpoint(header=header, network=tiny_network(spec), golden=golden)


def test_checkpoint_comes_back_as_it_was(tmp_path):
    written = checkpoint(tiny_spec())
    write_checkpoint(tmp_path / "c.safetensors", written)
    read = read_checkpoint(tmp_path / "c.safetensors")
    assert read.header == written.header
    torch.testing.assert_close(read.network(read.golden).logits, written.network(written.golden).logits)


def test_absent_checkpoint_is_refused(tmp_path):
    with pytest.raises(InputError, match="no such checkpoint"):
        read_checkpoint(tmp_path / "none.safetensors")


def test_truncated_checkpoint_is_refused(tmp_path):
    path = tmp_path / "c.safetensors"
    write_checkpoint(path, checkpoint(tiny_spec()))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match="damaged or not safetensors"):
        read_checkpoint(path)


def test_safetensors_of_something_else_is_refused(tmp_path):
    write_tensors(tmp_path / "c.safetensors", {"x": torch.zeros(3)}, {})
    with pytest.raises(InputError, match="not a checkpoint of this release"):
        read_checkpoint(tmp_path / "c.safetensors")


def test_weights_of_another_spec_are_named(tmp_path):
    network = tiny_network(tiny_spec(modalities=(IQ, IMAGE, THERMAL)))
    with pytest.raises(InputError, match=r"of another network: branches\.thermal\S* is absent"):
        load_weights(network, tiny_network(tiny_spec()).state_dict(), "c.safetensors")


def test_weights_that_are_not_finite_are_refused(tmp_path):
    broken = checkpoint(tiny_spec())
    with torch.no_grad():
        broken.network.branch("iq").head.weight[0, 0] = float("nan")
    write_checkpoint(tmp_path / "c.safetensors", broken)
    with pytest.raises(InputError, match=r"not finite: branches\.iq\.head\.weight"):
        read_checkpoint(tmp_path / "c.safetensors")
