"""Carrying out runs: one in this process, many in a pool of processes or on a cluster."""

import functools
import multiprocessing
import os
import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec

from models.errors import DeviceError, InputError
from models.nets.multimodal import MultimodalNet
from models.nets.sizes import BranchSizes
from models.spec import FusionSpec, ModalitySpec
from trainer.answers import NetworkModel
from trainer.compare.plan import FormWithoutWeights, Task
from trainer.data.catalogue import DataConfig, open_data_set
from trainer.data.examples import DataSet, Example
from trainer.evaluate import evaluate
from trainer.loop import Trainer, train
from trainer.methods.method import StepReport
from trainer.resume import RESUME

RESULT = "result.json"
_FINGERPRINT = "fingerprint"


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a run."""

    name: str
    fingerprint: str
    problem: str | None = None
    """Why there is no result: training diverged, or its data do not fit."""
    evaluation: dict[str, Any] = {}
    also: dict[str, dict[str, Any]] = {}
    """By fusion form: the same branches, fused otherwise."""
    cpu_seconds: float | None = None
    """Of training; None where the run was interrupted and taken up again."""
    parameters: int = 0

    @property
    def accuracy(self) -> float:
        """Share of right fused answers, 0 where the run failed."""
        return float(self.evaluation.get("accuracy", 0.0))


def carry_out(task: Task) -> Record:
    """Train and judge one run, going on where an earlier attempt at it stopped.

    Raises:
        InputError: the data set cannot be read. A run that fails by itself is a record with its problem.
    """
    config = task.config
    folder = config.folder
    mark = folder / _FINGERPRINT
    if not mark.is_file() or mark.read_text() != task.fingerprint:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        mark.write_text(task.fingerprint)
    data = _data_set(msgspec.json.encode(config.data), msgspec.json.encode(config.modalities))
    resumes = (folder / RESUME).is_file()
    started = time.process_time()
    try:
        trainer = Trainer(config, data)
        train(trainer, _Nobody(), resume=resumes)
    except InputError as error:
        return Record(name=task.name, fingerprint=task.fingerprint, problem=str(error))
    seconds = None if resumes else round(time.process_time() - started, 2)
    network = trainer.network.cpu()
    return Record(
        name=task.name,
        fingerprint=task.fingerprint,
        evaluation=_judged(network, data),
        also={form: _judged(_fused_by(form, network, config.sizes), data) for form in task.also_fused_by},
        cpu_seconds=seconds,
        parameters=sum(one.numel() for one in network.parameters()),
    )


def read_record(folder: Path, task: Task) -> Record | None:
    """Return what came of a run, None where it was not carried out with this configuration."""
    try:
        record = msgspec.json.decode((folder / task.name / RESULT).read_bytes(), type=Record)
    except (OSError, msgspec.DecodeError):
        return None
    return record if record.fingerprint == task.fingerprint else None


def write_record(folder: Path, record: Record) -> None:
    """Keep what came of a run; the state that would resume it is no longer needed."""
    path = folder / record.name / RESULT
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_bytes(msgspec.json.format(msgspec.json.encode(record), indent=1))
    partial.replace(path)
    (path.parent / RESUME).unlink(missing_ok=True)


def in_processes(tasks: Sequence[Task], workers: int) -> Iterator[Record]:
    """Yield records as they come, from a pool of processes of this machine.

    Raises:
        DeviceError: a process was killed, most likely for want of memory.
    """
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=_end_with_parent)
    try:
        for future in as_completed([pool.submit(carry_out, task) for task in tasks]):
            yield future.result()
    except BrokenProcessPool as error:
        raise DeviceError(
            f"one of {workers} processes was killed, perhaps for want of memory: start again with fewer --workers;"
            " finished runs are kept"
        ) from error
    finally:
        for process in list((pool._processes or {}).values()):
            process.terminate()
        pool.shutdown(wait=True, cancel_futures=True)


def on_cluster(tasks: Sequence[Task], address: str) -> Iterator[Record]:
    """Yield records as they come, from the machines of a Ray cluster; each needs this package and the data.

    Raises:
        DeviceError: no cluster answers.
    """
    import ray

    try:
        ray.init(address=address, log_to_driver=False)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise DeviceError(f"no Ray cluster at {address} ({error}): start one with `ray start --head`") from error
    try:
        remote = ray.remote(num_cpus=1, max_retries=2)(carry_out)
        waiting = [remote.remote(task) for task in tasks]
        while waiting:
            done, waiting = ray.wait(waiting, num_returns=1)
            yield from ray.get(done)
    finally:
        ray.shutdown()


class _KeptExamples:
    """A data set that makes its validation examples once, and is itself in all else."""

    def __init__(self, data: DataSet) -> None:
        self._data = data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._data, name)

    @cached_property
    def _kept(self) -> list[Example]:
        return list(self._data.validation_examples())

    def validation_examples(self) -> Iterator[Example]:
        """Yield the same objects every time."""
        return iter(self._kept)


class _Nobody:
    """Nobody looks on: the comparison shows whole runs."""

    def on_step(self, stage: str, epoch: int, done: float, report: StepReport) -> None:
        """Ignore it."""

    def on_epoch(self, line: dict[str, Any]) -> None:
        """Ignore it."""

    def on_evaluation(self, done: int) -> None:
        """Ignore it."""


@functools.lru_cache(maxsize=16)
def _data_set(config: bytes, modalities: bytes) -> DataSet:
    """Return a data set, opened once in a process."""
    return _KeptExamples(
        open_data_set(
            msgspec.json.decode(config, type=DataConfig),
            msgspec.json.decode(modalities, type=tuple[ModalitySpec, ...]),
        )
    )


def _fused_by(form: FormWithoutWeights, network: MultimodalNet, sizes: dict[str, BranchSizes]) -> MultimodalNet:
    """Return a network with the same branches under a fusion form that has no weights."""
    other = MultimodalNet(msgspec.structs.replace(network.spec, fusion=FusionSpec(method=form)), sizes)
    other.branches.load_state_dict(network.branches.state_dict())
    return other


def _judged(network: MultimodalNet, data: DataSet) -> dict[str, Any]:
    """Return figures as training left them, no temperature fitted, and the answers to each example for paired tests."""
    evaluation = evaluate(NetworkModel(network), data.validation_examples(), _Nobody().on_evaluation)
    return {**evaluation.as_json(), "rows": evaluation.rows.as_json()}


def _end_with_parent() -> None:
    """End this process when the one that started it dies, however it dies; take one thread."""
    parent = multiprocessing.parent_process()

    def wait() -> None:
        if parent is not None:
            parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
