"""What torchrun starts in the tests of several processes: train, by every method, and leave what came of it."""

import json
import sys
import typing
from pathlib import Path

import torch
from training import Silent, Tones, run_config

from trainer.methods.catalogue import MethodConfig
from trainer.methods.gradients import gradients_of
from trainer.methods.losses import compute_losses
from trainer.training.loop import Trainer, finish, train
from trainer.training.ranks import joined_ranks

METHODS = [kind() for kind in typing.get_args(MethodConfig)]


def main(folder: Path) -> None:
    with joined_ranks("cpu") as place:
        trainer = Trainer(run_config(folder), Tones(), place)
        seen = Silent()
        train(trainer, seen, resume=False)
        batch = trainer.batches.training(0, 0, 0.0)
        state = {name: value.clone() for name, value in trainer.network.state_dict().items()}
        torch.save({**state, "gradient": gradient_of(trainer, batch)}, folder / f"rank{place.rank}.pt")
        (folder / f"rank{place.rank}.json").write_text(json.dumps(seen.stages))
        torch.save({type(one).__name__: trained_by(one, place) for one in METHODS}, folder / f"methods{place.rank}.pt")
        if place.is_first:
            finish(trainer, [], seen)


def trained_by(method, place):
    """Return all weights and statistics after two epochs."""
    trainer = Trainer(run_config(Path("unused"), method=method), Tones(), place)
    for _ in range(2):
        trainer.run_epoch(Silent())
    return torch.cat([value.float().flatten() for value in trainer.network.state_dict().values()])


def gradient_of(trainer, batch):
    """Return the fused loss's gradient without what batches do to each other by normalisation."""
    trainer.network.eval().requires_grad_(True)
    parameters = list(trainer.network.parameters())
    gradients = gradients_of(compute_losses(trainer.network, batch).fused, parameters)
    return torch.cat([one.flatten() for one in gradients if one is not None])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
