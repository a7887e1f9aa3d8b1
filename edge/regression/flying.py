"""One flight flown with one model, in whatever process or machine this happens to run."""

import functools
import hashlib
import logging
import time
from pathlib import Path

import msgspec

import edge
import models
from edge.backends.select import PrecisionChoice
from edge.operations.replays import ExactOptions, fly_exact
from edge.recording.reader import open_recording
from edge.regression.keeping import Keep
from edge.regression.outcome import Origin, Outcome, outcome_of
from models.bundle import Bundle, open_bundle
from models.errors import BundleError, OnboardError

log = logging.getLogger(__name__)

_UNDECIDING = ("bench", "commands", "mavlink", "nets", "selfcheck")
"""Folders of our packages that no outcome depends on."""


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
        """Hash of all that decides the outcome: the flight, the model, the options, and this program."""
        parts = (self.flight_sha256, self.bundle_sha256, self.precision, program_hash())
        return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()[:32]


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a task."""

    task: Task
    outcome: Outcome | None = None
    problem: str = ""
    """Why there is no outcome: the recording cannot be read, or does not fit the model."""


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
        return Result(task=task, problem=str(error))
    except OSError as error:
        return Result(task=task, problem=f"{task.path}: cannot be read ({error.strerror})")
    except Exception as error:  # a fault of this program: one of hundreds of flights is not to end the others
        log.exception("%s could not be flown", task.path)
        what = f"{type(error).__name__}: {error}"
        return Result(task=task, problem=f"{task.path}: this program failed on it ({what}): tell its makers")


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
    keep.begin(task.key, f"{task.flight} with {task.bundle}")
    result = fly(task)
    if result.outcome is not None:
        keep.write(task.key, result.outcome)
    keep.end(task.key)
    return result


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
