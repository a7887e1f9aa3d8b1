"""The training loop: batches in, a checkpoint out, the same bits for the same seed. Which parameters learn from what is
the method's business.
"""

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from models.errors import InputError
from models.nets.checkpoint import Checkpoint, CheckpointHeader, write_checkpoint
from models.nets.multimodal import MultimodalNet
from models.spec import ModelSpec
from trainer.config import TrainConfig
from trainer.data.examples import DataSet, Example, prefetched, prepare
from trainer.evaluation.answers import NetworkModel
from trainer.evaluation.asking import ask
from trainer.evaluation.evaluate import judge
from trainer.evaluation.result import Evaluation
from trainer.methods.catalogue import build_method
from trainer.methods.method import Batch, Budgeted, StepReport
from trainer.training.batches import BatchMaker
from trainer.training.board import Board
from trainer.training.device import as_flown, pick_device
from trainer.training.diary import LOG, Diary
from trainer.training.early_stop import Best, first_judged_epoch, validation_loss
from trainer.training.ranks import ALONE, Place, average, average_gradients, average_statistics, from_first
from trainer.training.resume import RESUME, Movable, Position, as_json, load_state, save_state

__all__ = ["CHECKPOINT", "LOG", "RESUME", "Trainer", "Watcher", "fit"]

CHECKPOINT = "checkpoint.safetensors"
BEST = "best.safetensors"

log = logging.getLogger(__name__)

_RISE = 0.05  # share of all steps over which the learning rate comes up
_LARGEST_GRADIENT = 5.0
_GOLDEN_EXAMPLES = 4


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

    def __init__(self, config: TrainConfig, data: DataSet, place: Place = ALONE) -> None:
        """Build everything from the seed; `place` says which of several processes this is.

        Raises:
            ConfigError: sizes do not fit the modalities, or the processes cannot share a batch.
            DeviceError: there is no such device.
        """
        torch.set_num_threads(config.threads)
        torch.manual_seed(config.seed)
        self.config = config
        self.data = data
        self.place = place
        self.place.share_of(config.batch)
        self.device = pick_device(config.device)
        self.spec = ModelSpec(classes=data.classes, modalities=config.modalities, fusion=config.fusion)
        self.network = MultimodalNet(self.spec, config.sizes).to(self.device)
        for name in self.spec.modality_names:
            self.network.branch(name).is_bf16 = config.precision == "bf16"
            self.network.branch(name).is_channels_last = self.device.type == "cpu"
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
            place=self.place,
        )
        self.steps = config.examples_per_epoch // config.batch
        self.epoch = 0
        self.best = Best()

    def run_epoch(self, watcher: Watcher) -> dict[str, Any]:
        """Train one epoch and return its line of the log.

        Raises:
            InputError: training diverged, or data are broken; the message names the batch.
        """
        epoch = self.epoch
        seed = self.config.seed * 100_003 + epoch
        torch.manual_seed(seed)  # of dropout: a resumed run draws the same
        stage = self.method.begin_epoch(epoch, self._probe)
        if self.place.ranks > 1:
            torch.manual_seed(seed * self.place.ranks + self.place.rank)
        reports = []
        for step, batch in enumerate(prefetched(self._batch, self.steps)):
            self._set_learning_rate(self._spent(step))
            self.optimizer.zero_grad(set_to_none=True)
            reports.append(self.method.backward(batch.to(self.device)))
            average_gradients(self.network)
            self._update(reports[-1], f"epoch {epoch}, batch {step}")
            watcher.on_step(stage, epoch, self._done(step + 1), reports[-1])
        average_statistics(self.network)
        self.epoch += 1
        rate = self.optimizer.param_groups[0]["lr"]
        return {
            "epoch": epoch,
            "stage": stage,
            **_means(reports),
            "learning_rate": rate,
            "method": self.method.state(),
        }

    def save(self, path: Path) -> None:
        """Write what `load` needs to go on as if nothing had happened.

        Raises:
            RecordingError: the disk is full, or gone.
        """
        position = Position(epoch=self.epoch, method=self.method.state(), config=as_json(self.config), best=self.best)
        save_state(path, Movable(network=self.network, optimizer=self.optimizer), position)

    def load(self, path: Path) -> None:
        """Go on where `save` left off.

        Raises:
            InputError: the file is absent, damaged, or of a run with another configuration.
        """
        position = load_state(path, Movable(network=self.network, optimizer=self.optimizer), self.config)
        self.method.restore(position.method)
        self.epoch = position.epoch
        self.best = position.best

    def judge(self) -> tuple[float, bool]:
        """Return the validation loss after the latest epoch, and whether it is the best that counts."""
        loss = float(from_first(validation_loss(self.network, self.data) if self.place.is_first else 0.0))
        epoch = self.epoch - 1
        return loss, epoch >= first_judged_epoch(self.method) and self.best.take(epoch, loss)

    @property
    def is_over(self) -> bool:
        """Whether all epochs are behind, or the validation loss has not fallen for too long."""
        stop = self.config.early_stop
        has_stalled = stop is not None and self.best.waited(self.epoch - 1) >= stop.patience_epochs
        return has_stalled or self.epoch >= self.method.epochs

    def _done(self, step: int) -> float:
        """Return the share of all steps that is behind."""
        return (self.epoch * self.steps + step) / (self.method.epochs * self.steps)

    def _spent(self, step: int) -> float:
        """Return the share of the budget that is behind: what learning rate and curriculum go by."""
        if isinstance(self.method, Budgeted):
            return self.method.spent(self.epoch + step / self.steps)
        return self._done(step)

    def _batch(self, step: int) -> Batch:
        return self.batches.training(self.epoch, step, self._spent(step))

    def _probe(self, count: int) -> list[Batch]:
        return [self.batches.probe(number).to(self.device) for number in range(count)]

    def _set_learning_rate(self, done: float) -> None:
        rise = min(1.0, (done + 1e-3) / _RISE)
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * rise * 0.5 * (1 + math.cos(math.pi * done))

    def _update(self, report: StepReport, where: str) -> None:
        length = float(torch.nn.utils.clip_grad_norm_(self.network.parameters(), _LARGEST_GRADIENT))
        if not all(math.isfinite(value) for value in (length, *report.losses.values())):
            losses = ", ".join(f"{name} {loss:.3g}" for name, loss in report.losses.items())
            kept = self.config.folder / RESUME
            saved = f"; {kept} holds the epochs before" if self.epoch and kept.is_file() else ""
            raise InputError(
                f"{where}: training diverged (losses {losses}; gradient {length:.3g}):"
                f" lower learning_rate ({self.config.learning_rate}) and start again{saved}"
            )
        self.optimizer.step()


def fit(
    config: TrainConfig, data: DataSet, reproduce: str, watcher: Watcher, *, resume: bool
) -> tuple[Path, Evaluation]:
    """Train to the end, evaluate, and write the checkpoint; return its path and how well it does.

    Raises:
        InputError: data do not fit, training diverged, or there is nothing to resume from.
        RecordingError: the disk is full, or gone.
    """
    trainer = Trainer(config, data)
    train(trainer, watcher, resume=resume)
    return finish(trainer, [reproduce], watcher)


def train(trainer: Trainer, watcher: Watcher, *, resume: bool) -> None:
    """Run the epochs that are left; the first process writes log and state after each.

    Raises:
        InputError: training diverged, data are broken, or there is nothing to resume from.
        RecordingError: the disk is full, or gone.
    """
    state = trainer.config.folder / RESUME
    if resume:
        trainer.load(state)
    elif trainer.place.is_first:
        for left in (state, trainer.config.folder / BEST):  # by a run before: not to be taken for this one's
            left.unlink(missing_ok=True)
    try:
        _run_epochs(trainer, watcher)
    except KeyboardInterrupt:
        if trainer.place.is_first and trainer.epoch > 0 and state.is_file():
            log.warning("stopped in epoch %d; %s holds those before: --resume goes on", trainer.epoch, state)
        raise


def finish(trainer: Trainer, reproduce: Sequence[str], watcher: Watcher) -> tuple[Path, Evaluation]:
    """Evaluate as it will fly, and write the checkpoint; return its path and how well it does.

    Args:
        trainer: with all its epochs behind.
        reproduce: commands that train it again.
        watcher: learns of the evaluation.
    """
    config, data = trainer.config, trainer.data
    if trainer.best.epoch >= 0:
        trainer.load(config.folder / BEST)
        log.warning(
            "weights of epoch %d, chosen by their validation loss: figures from the same examples are optimistic",
            trainer.best.epoch,
        )
    model = NetworkModel(as_flown(trainer.network))
    asked = ask(model, data.validation_examples(), watcher.on_evaluation)
    model.calibrate(asked)
    evaluation = judge(model, asked)
    header = CheckpointHeader(
        spec=trainer.spec,
        sizes=config.sizes,
        description=config.description,
        licence=data.licence,
        reproduce=tuple(reproduce),
        metrics=evaluation.metrics(),
        tools={"trained with torch": str(torch.__version__), "numpy": np.__version__},
        temperature=model.temperature,
    )
    golden = {name: torch.from_numpy(stack) for name, stack in _golden_inputs(data, trainer.spec).items()}
    path = config.folder / CHECKPOINT
    write_checkpoint(path, Checkpoint(header=header, network=trainer.network, golden=golden))
    return path, evaluation


def _run_epochs(trainer: Trainer, watcher: Watcher) -> None:
    config, is_first = trainer.config, trainer.place.is_first
    if is_first:
        config.folder.mkdir(parents=True, exist_ok=True)
    diary = Diary(config.folder / LOG, trainer.epoch) if is_first else None
    board = Board(config.folder, trainer.epoch) if is_first and config.tensorboard else None
    while not trainer.is_over:
        line = trainer.run_epoch(watcher)
        if config.early_stop is not None:
            line["validation_loss"], is_best = trainer.judge()
            if is_best and is_first:
                trainer.save(config.folder / BEST)
        if diary is not None:
            diary.write(line)
            trainer.save(config.folder / RESUME)
            watcher.on_epoch(line)
        if board is not None:
            board.write(line)


def _golden_inputs(data: DataSet, spec: ModelSpec) -> dict[str, Any]:
    """Return a few validation examples of different classes, preprocessed."""
    chosen: dict[int, Example] = {}
    for example in data.validation_examples():
        chosen.setdefault(example.label, example)
        if len(chosen) == min(_GOLDEN_EXAMPLES, len(spec.classes)):
            break
    return prepare(list(chosen.values()), spec)[0]


def _means(reports: Sequence[StepReport]) -> dict[str, dict[str, float]]:
    """Return losses, accuracies and cosines, averaged over an epoch and all processes."""
    sums: dict[tuple[str, str], list[float]] = {}
    for report in reports:
        for part in ("losses", "accuracies", "cosines"):
            for name, value in getattr(report, part).items():
                sums.setdefault((part, name), []).append(value)
    means = torch.tensor([np.mean(values) for values in sums.values()], dtype=torch.float64)
    average([means])
    line: dict[str, dict[str, float]] = {"losses": {}, "accuracies": {}, "cosines": {}}
    for (part, name), mean in zip(sums, means.tolist(), strict=True):
        line[part][name] = round(mean, 5)
    return line
