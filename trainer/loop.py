"""The training loop: batches in, a checkpoint out, the same bits for the same seed. Which parameters learn from what is
the method's business.
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec
import numpy as np
import torch

from models.errors import InputError
from models.nets.checkpoint import (
    Checkpoint,
    CheckpointHeader,
    load_weights,
    read_tensors,
    write_checkpoint,
    write_tensors,
)
from models.nets.multimodal import MultimodalNet
from models.spec import ModelSpec
from trainer.answers import NetworkModel
from trainer.batches import BatchMaker
from trainer.config import TrainConfig
from trainer.data.examples import DataSet, Example, prefetched, prepare
from trainer.evaluate import Evaluation, evaluate
from trainer.methods.catalogue import build_method
from trainer.methods.method import Batch, StepReport

CHECKPOINT = "checkpoint.safetensors"
RESUME = "resume.safetensors"
LOG = "log.jsonl"

_RISE = 0.05  # share of all steps over which the learning rate comes up
_LARGEST_GRADIENT = 5.0
_GOLDEN_EXAMPLES = 4
_NETWORK, _OPTIMIZER = "network.", "optimizer."


class Watcher(Protocol):
    """Someone who looks on."""

    def on_step(self, stage: str, epoch: int, done: float, report: StepReport) -> None:
        """Learn of a step; `done` is the part of all steps that is behind."""

    def on_epoch(self, line: dict[str, Any]) -> None:
        """Learn of an epoch's line of the log."""

    def on_evaluation(self, done: int) -> None:
        """Learn how many validation examples have been answered."""


class Trainer:
    """One run: network, method, optimizer, and where it stands."""

    def __init__(self, config: TrainConfig, data: DataSet) -> None:
        """Build everything from the seed.

        Raises:
            ConfigError: sizes do not fit the modalities.
        """
        torch.set_num_threads(config.threads)
        torch.manual_seed(config.seed)
        self.config = config
        self.data = data
        self.spec = ModelSpec(classes=data.classes, modalities=config.modalities, fusion=config.fusion)
        self.network = MultimodalNet(self.spec, config.sizes)
        self.method = build_method(config.method, self.network, config.epochs)
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        self.batches = BatchMaker(
            data=data,
            spec=self.spec,
            seed=config.seed,
            batch=config.batch,
            modality_dropout=config.modality_dropout,
            outlier_share=config.outlier_share,
        )
        self.steps = config.examples_per_epoch // config.batch
        self.epoch = 0

    def run_epoch(self, watcher: Watcher) -> dict[str, Any]:
        """Train one epoch and return its line of the log.

        Raises:
            InputError: training diverged; the message names the batch.
        """
        epoch = self.epoch
        torch.manual_seed(self.config.seed * 100_003 + epoch)  # of dropout: a resumed run draws the same
        stage = self.method.begin_epoch(epoch, self._probe)
        reports = []
        for step, batch in enumerate(prefetched(self._batch, self.steps)):
            self._set_learning_rate(self._done(step))
            self.optimizer.zero_grad(set_to_none=True)
            reports.append(self.method.backward(batch))
            self._update(reports[-1], f"epoch {epoch}, batch {step}")
            watcher.on_step(stage, epoch, self._done(step + 1), reports[-1])
        self.epoch += 1
        return {"epoch": epoch, "stage": stage, **_means(reports), "method": self.method.state()}

    def save(self, path: Path) -> None:
        """Write what `load` needs to go on as if nothing had happened."""
        state = self.optimizer.state_dict()
        tensors = {_NETWORK + name: value for name, value in self.network.state_dict().items()}
        for index, values in state["state"].items():
            tensors |= {f"{_OPTIMIZER}{index}.{name}": value for name, value in values.items()}
        position = {"epoch": self.epoch, "method": self.method.state(), "config": msgspec.to_builtins(self.config)}
        write_tensors(path, tensors, {"position": json.dumps(position)})

    def load(self, path: Path) -> None:
        """Go on where `save` left off.

        Raises:
            InputError: the file is absent, damaged, or of a run with another configuration.
        """
        tensors, metadata = read_tensors(path)
        try:
            position = json.loads(metadata.get("position", ""))
        except json.JSONDecodeError as error:
            raise InputError(f"{path}: not the state of a training run: start without --resume") from error
        now = json.loads(json.dumps(msgspec.to_builtins(self.config)))
        differing = sorted(name for name in now if now[name] != position["config"].get(name))
        if differing:
            raise InputError(
                f"{path}: from a run with other {', '.join(differing)}: restore them, or start without --resume"
            )
        weights = {name.removeprefix(_NETWORK): value for name, value in tensors.items() if name.startswith(_NETWORK)}
        load_weights(self.network, weights, str(path))
        moments: dict[int, dict[str, Any]] = {}
        for name, value in tensors.items():
            if name.startswith(_OPTIMIZER):
                index, key = name.removeprefix(_OPTIMIZER).split(".")
                moments.setdefault(int(index), {})[key] = value
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": moments})
        self.method.restore(position["method"])
        self.epoch = int(position["epoch"])

    def _done(self, step: int) -> float:
        return (self.epoch * self.steps + step) / (self.method.epochs * self.steps)

    def _batch(self, step: int) -> Batch:
        return self.batches.training(self.epoch, step, self._done(step))

    def _probe(self, count: int) -> list[Batch]:
        return [self.batches.probe(number) for number in range(count)]

    def _set_learning_rate(self, done: float) -> None:
        rise = min(1.0, (done + 1e-3) / _RISE)
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * rise * 0.5 * (1 + math.cos(math.pi * done))

    def _update(self, report: StepReport, where: str) -> None:
        length = float(torch.nn.utils.clip_grad_norm_(self.network.parameters(), _LARGEST_GRADIENT))
        if not all(math.isfinite(value) for value in (length, *report.losses.values())):
            losses = ", ".join(f"{name} {loss:.3g}" for name, loss in report.losses.items())
            raise InputError(
                f"{where}: training diverged (losses {losses}; gradient {length:.3g}):"
                f" lower learning_rate ({self.config.learning_rate}) and start again"
            )
        self.optimizer.step()


def fit(
    config: TrainConfig, data: DataSet, reproduce: str, watcher: Watcher, *, resume: bool
) -> tuple[Path, Evaluation]:
    """Train to the end, evaluate, and write the checkpoint; return its path and how well it does.

    Raises:
        InputError: data do not fit, training diverged, or there is nothing to resume from.
    """
    trainer = Trainer(config, data)
    if resume:
        trainer.load(config.folder / RESUME)
    config.folder.mkdir(parents=True, exist_ok=True)
    with (config.folder / LOG).open("a" if resume else "w") as stream:
        while trainer.epoch < trainer.method.epochs:
            line = trainer.run_epoch(watcher)
            stream.write(json.dumps(line) + "\n")
            stream.flush()
            trainer.save(config.folder / RESUME)
            watcher.on_epoch(line)
    evaluation = evaluate(NetworkModel(trainer.network), data.validation_examples(), watcher.on_evaluation)
    header = CheckpointHeader(
        spec=trainer.spec,
        sizes=config.sizes,
        description=config.description,
        licence=data.licence,
        reproduce=(reproduce,),
        metrics=evaluation.metrics(),
        tools={"trained with torch": str(torch.__version__), "numpy": np.__version__},
    )
    golden = {name: torch.from_numpy(stack) for name, stack in _golden_inputs(data, trainer.spec).items()}
    path = config.folder / CHECKPOINT
    write_checkpoint(path, Checkpoint(header=header, network=trainer.network, golden=golden))
    return path, evaluation


def _golden_inputs(data: DataSet, spec: ModelSpec) -> dict[str, Any]:
    """Return a few validation examples of different classes, preprocessed."""
    chosen: dict[int, Example] = {}
    for example in data.validation_examples():
        chosen.setdefault(example.label, example)
        if len(chosen) == min(_GOLDEN_EXAMPLES, len(spec.classes)):
            break
    return prepare(list(chosen.values()), spec)[0]


def _means(reports: Sequence[StepReport]) -> dict[str, dict[str, float]]:
    """Return losses and accuracies, averaged over an epoch."""
    return {
        part: {
            name: round(float(np.mean([getattr(report, part)[name] for report in reports])), 5)
            for name in getattr(reports[0], part)
        }
        for part in ("losses", "accuracies")
    }
