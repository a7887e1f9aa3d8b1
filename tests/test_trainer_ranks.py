"""Several processes train one network: here two, started by torchrun as a person would."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from train_on_ranks import METHODS, gradient_of
from training import Tones, run_config, tiny_spec

from models.errors import ConfigError
from models.nets.checkpoint import read_checkpoint
from trainer.training.batches import BatchMaker
from trainer.training.diary import LOG, read_log
from trainer.training.loop import CHECKPOINT, Trainer
from trainer.training.ranks import ALONE, Place, average, from_first

SCRIPT = Path(__file__).with_name("train_on_ranks.py")
BATCH_FIELDS = ("inputs", "outliers")


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*torchrun, str(SCRIPT), str(folder)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def loaded(folder, rank):
    return torch.load(folder / f"rank{rank}.pt", weights_only=True)


def test_both_processes_end_with_the_same_weights_and_stages(two_ranks):
    first, second = loaded(two_ranks, 0), loaded(two_ranks, 1)
    assert all(torch.allclose(first[name], second[name], rtol=0, atol=1e-5) for name in first)
    stages = [json.loads((two_ranks / f"rank{rank}.json").read_text()) for rank in (0, 1)]
    assert stages[0] == stages[1]
    assert {"warm-up", "refit", "consolidate"} < set(stages[0])
    assert [line["stage"] for line in read_log(two_ranks / LOG)] == stages[0]


def test_both_processes_agree_whatever_the_method(two_ranks):
    first, second = (torch.load(two_ranks / f"methods{rank}.pt", weights_only=True) for rank in (0, 1))
    assert first.keys() == second.keys() == {type(one).__name__ for one in METHODS}
    assert {name: (first[name] - second[name]).abs().max().item() <= 1e-5 for name in first} == dict.fromkeys(
        first, True
    )


def test_only_the_first_process_writes(two_ranks):
    network = read_checkpoint(two_ranks / CHECKPOINT).network.state_dict()
    first = loaded(two_ranks, 0)
    assert all(torch.equal(network[name], first[name]) for name in network)
    epochs = [line["epoch"] for line in read_log(two_ranks / LOG)]
    assert epochs == list(range(len(epochs)))


def test_gradient_of_two_shares_is_the_gradient_of_the_whole_batch(two_ranks):
    state = loaded(two_ranks, 0)
    found = state.pop("gradient")
    trainer = Trainer(run_config(two_ranks), Tones())
    trainer.network.load_state_dict(state)
    expected = gradient_of(trainer, trainer.batches.training(0, 0, 0.0))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def maker(place):
    return BatchMaker(
        data=Tones(), spec=tiny_spec(), seed=1, batch=16, modality_dropout=0.5, outlier_share=0.25, place=place
    )


def test_shares_of_a_batch_are_the_batch_of_one_process():
    whole = maker(ALONE).training(2, 3, 0.5)
    shares = [maker(Place(rank=rank, ranks=4)).training(2, 3, 0.5) for rank in range(4)]
    assert torch.equal(torch.cat([share.labels for share in shares]), whole.labels)
    assert torch.equal(torch.cat([share.mask for share in shares]), whole.mask)
    for field in BATCH_FIELDS:
        for name, tensor in getattr(whole, field).items():
            assert torch.equal(torch.cat([getattr(share, field)[name] for share in shares]), tensor)


def test_probe_is_whole_in_every_process():
    first, second = (maker(Place(rank=rank, ranks=2)).probe(1) for rank in (0, 1))
    assert len(first.labels) == 16
    assert torch.equal(first.inputs["iq"], second.inputs["iq"])


@pytest.mark.parametrize("ranks", [3, 16])
def test_batch_that_cannot_be_shared_is_refused(tmp_path, ranks):
    with pytest.raises(ConfigError, match=f"batch is 16, for {ranks} processes: expected a multiple of {ranks}"):
        Trainer(run_config(tmp_path), Tones(), Place(rank=0, ranks=ranks))


def test_one_process_averages_with_nobody():
    value = torch.tensor([1.0, 3.0])
    average([value, None])
    assert value.tolist() == [1.0, 3.0]
    assert from_first({"a": 1}) == {"a": 1}
