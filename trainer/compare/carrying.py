"""Carrying out one run: train, judge, and say what came of it."""

import functools
import logging
import shutil
import time
from typing import Any

import msgspec

from models.errors import ConfigError, InputError
from models.nets.multimodal import MultimodalNet
from models.nets.sizes import BranchSizes
from models.spec import FusionSpec, ModalitySpec
from trainer.compare.plan import FormWithoutWeights, Task
from trainer.compare.records import Record, code_hash
from trainer.data.catalogue import DataConfig, open_data_set
from trainer.data.examples import DataSet, Example
from trainer.evaluation.answers import NetworkModel
from trainer.evaluation.evaluate import evaluate
from trainer.methods.method import StepReport
from trainer.training.device import as_flown
from trainer.training.loop import Trainer, train
from trainer.training.resume import RESUME

log = logging.getLogger(__name__)

_FINGERPRINT = "fingerprint"


def carry_out(task: Task) -> Record:
    """Train and judge one run, going on where an earlier attempt at it stopped.

    Raises:
        InputError: the data set cannot be read. A run that fails by itself is a record with its problem.
    """
    config = task.config
    data, examples = _data_set(msgspec.json.encode(config.data), msgspec.json.encode(config.modalities))
    resumes = _is_begun(task)
    started = time.process_time()
    try:
        trainer = _trained(task, data, resumes)
    except (InputError, ConfigError) as error:
        return Record(name=task.name, fingerprint=task.fingerprint, code=code_hash(), problem=str(error))
    seconds = None if resumes else round(time.process_time() - started, 2)
    network = as_flown(trainer.network)
    return Record(
        name=task.name,
        fingerprint=task.fingerprint,
        code=code_hash(),
        evaluation=_judged(network, examples),
        also={form: _judged(_fused_by(form, network, config.sizes), examples) for form in task.also_fused_by},
        cpu_seconds=seconds,
        parameters=sum(one.numel() for one in network.parameters()),
    )


def _is_begun(task: Task) -> bool:
    """Return whether an attempt at this very run left a state; remove what another configuration left."""
    folder = task.config.folder
    mark = folder / _FINGERPRINT
    if not mark.is_file() or mark.read_text() != task.fingerprint:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        mark.write_text(task.fingerprint)
    return (folder / RESUME).is_file()


def _trained(task: Task, data: DataSet, resumes: bool) -> Trainer:
    """Return a trainer that has run all its epochs; a state that cannot be read costs the epochs in it, no more."""
    trainer = Trainer(task.config, data)
    if resumes:
        try:
            trainer.load(task.config.folder / RESUME)
        except InputError as error:
            log.warning("%s: begins anew: %s", task.name, error)
            return _trained(task, data, False)
    train(trainer, _Nobody(), resume=resumes)
    return trainer


class _Nobody:
    """Nobody looks on: the comparison shows whole runs."""

    def on_step(self, stage: str, epoch: int, done: float, report: StepReport) -> None:
        """Ignore it."""

    def on_epoch(self, line: dict[str, Any]) -> None:
        """Ignore it."""

    def on_evaluation(self, done: int) -> None:
        """Ignore it."""


@functools.lru_cache(maxsize=16)
def _data_set(config: bytes, modalities: bytes) -> tuple[DataSet, tuple[Example, ...]]:
    """Return a data set and its validation examples, made once in a process."""
    data = open_data_set(
        msgspec.json.decode(config, type=DataConfig),
        msgspec.json.decode(modalities, type=tuple[ModalitySpec, ...]),
    )
    return data, tuple(data.validation_examples())


def _fused_by(form: FormWithoutWeights, network: MultimodalNet, sizes: dict[str, BranchSizes]) -> MultimodalNet:
    """Return a network with the same branches under a fusion form that has no weights."""
    other = MultimodalNet(msgspec.structs.replace(network.spec, fusion=FusionSpec(method=form)), sizes)
    other.branches.load_state_dict(network.branches.state_dict())
    return other


def _judged(network: MultimodalNet, examples: tuple[Example, ...]) -> dict[str, Any]:
    """Return figures as training left them, no temperature fitted, and the answers to each example for paired tests."""
    evaluation = evaluate(NetworkModel(network), examples, _Nobody().on_evaluation)
    return {**evaluation.as_json(), "rows": evaluation.rows.as_json()}
