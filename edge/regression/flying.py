"""One flight flown with one model, in whatever process or machine this happens to run."""

import functools
import hashlib
import importlib.metadata
import logging
import platform
import time
from pathlib import Path

import msgspec

import edge
import models
from edge.backends.select import PrecisionChoice, cpu_target
from edge.operations.replays import ExactOptions, fly_exact
from edge.recording.reader import open_recording
from edge.regression.flights import shown
from edge.regression.keeping import Keep
from edge.regression.outcome import Origin, Outcome, outcome_of
from models.bundle import Bundle, open_bundle
from models.errors import BundleError, OnboardError

log = logging.getLogger(__name__)

_UNDECIDING = ("bench", "commands", "mavlink", "nets", "selfcheck")
"""Folders of our packages that no outcome depends on."""
_OPENCV = ("opencv-python-headless", "opencv-python", "opencv-contrib-python-headless", "opencv-contrib-python")
_DECIDING = ("numpy", "onnxruntime", "onnxruntime-gpu", *_OPENCV)
"""Packages of others that an outcome depends on."""


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be flown."""

    flight: str
    """Name under which it is shown."""
    path: str
    flight_sha256: str
    bundle: str
    bundle_sha256: str
    precision: PrecisionChoice

    @property
    def key(self) -> str:
        """Hash of all that decides the outcome: flight, model, options, this program and what it runs on."""
        parts = (self.flight_sha256, self.bundle_sha256, self.precision, program_hash(), *surroundings())
        return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()[:32]


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a task."""

    task: Task
    outcome: Outcome | None = None
    problem: str = ""
    """Why there is no outcome: the recording cannot be read, or does not fit the model."""
    is_kept: bool = False
    """Whether it had been flown before."""
    copy_of: str = ""
    """Name of a flight whose file is the same, and which is flown in its place."""


def fly(task: Task) -> Result:
    """Fly a flight exactly.

    Raises:
        BundleError: the model does not fly on this machine, or is not the one that was meant. A flight that cannot be
            flown is a result with its problem, whatever that is.
    """
    bundle = _bundle(task.bundle, task.bundle_sha256)
    try:
        return Result(task=task, outcome=_outcome(task, bundle))
    except BundleError:
        raise
    except OnboardError as error:
        return Result(task=task, problem=shown(str(error)))
    except OSError as error:
        return Result(task=task, problem=shown(f"{task.path}: cannot be read ({error.strerror})"))
    except Exception as error:  # a fault of this program: one of hundreds of flights is not to end the others
        log.exception("%s could not be flown", task.path)
        what = f"{task.path}: this program failed on it ({type(error).__name__}: {error}): tell its makers"
        return Result(task=task, problem=shown(what))


def _outcome(task: Task, bundle: Bundle) -> Outcome:
    started_s = time.monotonic()
    recording = open_recording(Path(task.path))
    flown = fly_exact(recording, bundle, ExactOptions(precision=task.precision, threads=1))
    origin = Origin(
        flight=task.flight,
        flight_sha256=task.flight_sha256,
        bundle_sha256=task.bundle_sha256,
        begin_ns=recording.start_ns,
        damage=str(recording.damage) if recording.damage.is_damaged else "",
        wall_s=round(time.monotonic() - started_s, 3),
    )
    return outcome_of(flown, origin)


def fly_and_keep(folder: str, task: Task) -> Result:
    """Fly a flight and keep its outcome before anybody learns of it, so that it is never flown again."""
    keep = Keep(Path(folder))
    finished = kept_result(keep, task)
    if finished is not None:
        return finished
    keep.begin(task.key, f"{task.flight} with {task.bundle}")
    result = fly(task)
    if result.outcome is not None:
        keep.write(task.key, result.outcome)
    keep.end(task.key)
    return result


def kept_result(keep: Keep | None, task: Task) -> Result | None:
    """Return what came of a task before; None where nothing is kept of it, or nothing that can be read."""
    outcome = keep.read(task.key) if keep is not None else None
    if outcome is None:
        return None
    return Result(task=task, outcome=msgspec.structs.replace(outcome, flight=task.flight), is_kept=True)


@functools.lru_cache(maxsize=4)
def _bundle(path: str, sha256: str) -> Bundle:
    """Return a model, read once in a process."""
    bundle = open_bundle(Path(path))
    if bundle.sha256 != sha256:
        raise BundleError(f"{path}: expected the bundle {sha256[:12]}, found {bundle.sha256[:12]}: it was replaced")
    return bundle


@functools.cache
def program_hash() -> str:
    """Return a hash of all modules that an outcome depends on."""
    digest = hashlib.sha256()
    for package in (models, edge):
        root = Path(package.__path__[0])
        for path in sorted(root.rglob("*.py")):
            if path.relative_to(root).parts[0] not in _UNDECIDING:
                digest.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:12]


@functools.cache
def surroundings() -> tuple[str, ...]:
    """Return the libraries and the kind of machine that an outcome depends on: others pick other graphs, or round."""
    machine = (platform.python_version(), platform.machine(), cpu_target())
    return (*machine, *(f"{name} {_version(name)}" for name in _DECIDING))


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:  # as of OpenCV, which comes under several names
        return "none"
