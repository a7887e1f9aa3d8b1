"""What came of runs, on disk: a file each, whole or not there."""

import functools
import hashlib
from pathlib import Path
from typing import Any

import msgspec

import models
import trainer
from trainer.compare.plan import Task
from trainer.training.resume import RESUME

RESULT = "result.json"

_UNDECIDING = ("compare", "commands")  # folders of trainer that no result depends on


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a run."""

    name: str
    fingerprint: str
    code: str = ""
    """Hash of the program that carried it out."""
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


@functools.cache
def code_hash() -> str:
    """Return a hash of all modules that a result depends on."""
    digest = hashlib.sha256()
    for package in (models, trainer):
        root = Path(package.__path__[0])
        for path in sorted(root.rglob("*.py")):
            if path.relative_to(root).parts[0] not in _UNDECIDING:
                digest.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:12]
