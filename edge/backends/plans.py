"""The plan cache: serialized engines beside what they were built for, handed out only where all of it is the same.

<folder>/
    <key>.json             what the plan was built for, its SHA-256 and size
    <key>-<sha256>.plan    the plan
    lock                   held by who writes

A plan is executable code to the GPU, and TensorRT parses it without distrust. So the folder must belong to whoever
reads it, or to root, and nobody else may write to it: that is what stands between a stranger and the engine. SHA-256
tells damage, not intent. Nothing here needs tensorrt or CUDA: what is to be known of the machine is handed in.
"""

import contextlib
import fcntl
import hashlib
import logging
import os
import stat
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec

from edge.backends.plan_key import BuilderOptions, PlanKey, differences
from models.archive import open_regular
from models.disk import write_whole
from models.errors import BundleError, DeviceError, RecordingError
from models.schema import load_yaml

log = logging.getLogger(__name__)

MAX_SIDECAR_BYTES = 1 << 16
MAX_PLAN_BYTES = 1 << 31
_LOCK = "lock"
_HEX = "[0-9a-f]"


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much the cache keeps; what was not used for the longest time goes first, what a flight needs never."""

    plans: int = 64
    """Number of plans."""
    mib: int = 2048
    """Size of all together, in MiB."""

    def __post_init__(self) -> None:
        if self.plans < 1 or self.mib < 1:
            raise ValueError(f"plans is {self.plans}, mib is {self.mib}: expected 1 or more")


class PlanConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """YAML of what plans are built with and how many are kept."""

    builder: BuilderOptions = BuilderOptions()
    cache: Limits = Limits()


def read_options(path: Path | None) -> PlanConfig:
    """Return what a YAML file says of plans, the defaults without one.

    Raises:
        ConfigError: as `load_yaml`.
    """
    return load_yaml(path, PlanConfig) if path is not None else PlanConfig()


class Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The sidecar of a plan."""

    key: PlanKey
    title: str
    """Which graph of which bundle, for people."""
    sha256: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
    size_bytes: int

    @property
    def file(self) -> str:
        """Name of the plan's file."""
        return f"{self.key.name}-{self.sha256[:16]}.plan"


@dataclass(frozen=True, kw_only=True, slots=True)
class Lookup:
    """A plan, or why there is none."""

    plan: bytes | None
    entry: Entry | None = None
    """The plan's sidecar, where there is a plan."""
    problems: tuple[str, ...] = ()
    """What was expected, and what is there; empty where there is a plan."""
    command: str = ""
    """What to type to mend it."""

    @property
    def reason(self) -> str:
        """Return problems and remedy, a line each; nothing where there is a plan."""
        return "\n".join(f"{problem}: rebuild with {self.command}" for problem in self.problems)


class PlanCache:
    """A folder of plans."""

    def __init__(
        self,
        folder: Path,
        limits: Limits | None = None,
        command: str | None = None,
        needed: Collection[str] = (),
    ) -> None:
        """Nothing is read yet.

        Args:
            folder: outside of any bundle; may be absent, and is made by `store`.
            limits: what `store` keeps; the defaults without.
            command: what to type to build what is missing, for messages.
            needed: names of keys whose plans stay, whatever the limits say: those that fly together.
        """
        self.folder = folder
        self._limits = limits or Limits()
        self._needed = frozenset(needed)
        self.command = command or f"uav-calibrate build --bundle BUNDLE.uavb --plans {folder}"

    def look_up(self, key: PlanKey) -> Lookup:
        """Return the plan for a key, every byte verified, or why there is none.

        Raises:
            DeviceError: others may write to the folder.
        """
        check_folder(self.folder)
        if not os.path.lexists(self._sidecar(key.name)):
            return Lookup(plan=None, problems=self._nearest(key), command=self.command)
        try:
            entry = self._read_sidecar(self._sidecar(key.name))
            unlike = differences(key, entry.key)
            if unlike:
                raise _UnfitError("; ".join(map(str, unlike)))
            plan = self._read_plan(entry)
        except _UnfitError as fault:
            problem = f"{self._sidecar(key.name)}: {fault}"
            return Lookup(plan=None, problems=(problem,), command=self.command)
        with contextlib.suppress(OSError):  # a folder that may only be read is as good, but forgets what was used
            os.utime(self._sidecar(key.name))
        return Lookup(plan=plan, entry=entry)

    def store(self, key: PlanKey, plan: bytes, title: str) -> Entry:
        """Keep a plan under its key, in place of one that may be there, and drop what goes beyond the limits.

        Raises:
            DeviceError: others may write to the folder.
            RecordingError: it cannot be written; what was there before is whole.
        """
        entry = Entry(key=key, title=title, sha256=hashlib.sha256(plan).hexdigest(), size_bytes=len(plan))
        with self.locked():
            write_whole(self.folder / entry.file, plan)
            write_whole(self._sidecar(key.name), msgspec.json.format(msgspec.json.encode(entry)))
            self._drop(entry)
        return entry

    def entries(self) -> list[Entry]:
        """Return the readable sidecars, what was used last first; whether their plans are sound `look_up` says."""
        found: list[tuple[float, Entry]] = []
        for path in self.folder.glob("*.json"):
            with contextlib.suppress(_UnfitError, OSError):  # OSError: another process has dropped it meanwhile
                entry = self._read_sidecar(path)
                if path.name == f"{entry.key.name}.json":
                    found.append((path.stat().st_mtime, entry))
        return [entry for _, entry in sorted(found, key=lambda one: (-one[0], one[1].file))]

    def explain(self, key: PlanKey) -> list[str]:
        """Return why there is no plan for a key: how the nearest one of the same graph differs, and what mends it.

        Raises:
            DeviceError: others may write to the folder.
        """
        return self.look_up(key).reason.splitlines()

    def _nearest(self, key: PlanKey) -> tuple[str, ...]:
        """Return how the nearest plan of the same graph differs from what is wanted."""
        same = [(differences(key, entry.key), entry) for entry in self.entries()]
        same = [(unlike, entry) for unlike, entry in same if entry.key.onnx_sha256 == key.onnx_sha256]
        if not same:
            return (f"{self.folder}: no plan of this graph",)
        unlike, entry = min(same, key=lambda one: len(one[0]))
        return tuple(f"{entry.file}: {one}" for one in unlike)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Make the folder where need be, and let no other process write to it meanwhile.

        Raises:
            DeviceError: others may write to the folder.
            RecordingError: it cannot be made or written to.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            check_folder(self.folder)
            lock = os.open(self.folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise RecordingError(
                f"{self.folder}: cannot be written ({error.strerror}): name another folder with --plans"
            ) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def _sidecar(self, name: str) -> Path:
        return self.folder / f"{name}.json"

    def _read_sidecar(self, path: Path) -> Entry:
        data = _read(path, MAX_SIDECAR_BYTES)
        try:
            return msgspec.json.decode(data, type=Entry)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:  # no JSON, no entry, no text
            raise _UnfitError(f"not what the plan cache wrote ({error})") from error

    def _read_plan(self, entry: Entry) -> bytes:
        """Return a plan's bytes where they are what the sidecar says."""
        if not 0 < entry.size_bytes <= MAX_PLAN_BYTES:
            raise _UnfitError(f"a plan of {entry.size_bytes} bytes, expected at most {MAX_PLAN_BYTES}")
        plan = _read(self.folder / entry.file, entry.size_bytes)
        digest = hashlib.sha256(plan).hexdigest()
        if len(plan) != entry.size_bytes or digest != entry.sha256:
            raise _UnfitError(
                f"{entry.file}: expected {entry.size_bytes} bytes with SHA-256 {entry.sha256[:12]}…, found"
                f" {len(plan)} bytes with {digest[:12]}…"
            )
        return plan

    def _drop(self, kept: Entry) -> None:
        """Remove what goes beyond the limits, and plans that no sidecar names; `kept` and what is needed stay."""
        stay = {kept.key.name, *self._needed}
        named, count, size_bytes, is_over = set(), 0, 0, False
        for entry in sorted(self.entries(), key=lambda one: one.key.name not in stay):  # stable: the last used ahead
            count, size_bytes = count + 1, size_bytes + entry.size_bytes
            is_within = count <= self._limits.plans and size_bytes <= self._limits.mib << 20
            if is_within or entry.key.name in stay:
                named.add(entry.file)
                is_over |= not is_within
            else:
                self._sidecar(entry.key.name).unlink(missing_ok=True)
        if is_over:
            log.warning(
                "%s: the plans that fly together are more than cache.plans (%d) or cache.mib (%d) allow: they are kept;"
                " raise these limits in the YAML of --options",
                *(self.folder, self._limits.plans, self._limits.mib),
            )
        for path in (*self.folder.glob(f"{_HEX * 32}-{_HEX * 16}.plan"), *self.folder.glob(f".{_HEX * 32}*.partial")):
            if path.name not in named:
                path.unlink(missing_ok=True)


class _UnfitError(Exception):
    """What lies in the folder is not what it should be."""


def check_folder(folder: Path) -> None:
    """Raise DeviceError where somebody else could have put plans into a folder, or where it is closed to its reader.

    One that is absent is none's.
    """
    try:
        found = folder.stat()
    except PermissionError as error:
        raise _closed(folder, "it lies in one that is closed to this user") from error
    except OSError:
        return
    if not stat.S_ISDIR(found.st_mode):
        raise DeviceError(f"{folder}: expected a folder of plans, found a file: name another with --plans")
    _check_owner(folder, found)
    if not os.access(folder, os.R_OK | os.X_OK):
        raise _closed(folder, f"mode {stat.S_IMODE(found.st_mode):o} of user {found.st_uid}")


def _closed(folder: Path, found: str) -> DeviceError:
    """Return the error of a folder whose plans cannot be seen, which is not the same as to have none."""
    return DeviceError(
        f"{folder}: expected that user {os.geteuid()} may read it, found {found}: run as the user that built the plans,"
        " or build into a folder of your own"
    )


def _check_owner(path: Path, found: os.stat_result) -> None:
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise DeviceError(
            f"{path}: expected that nobody else may write to it, found mode {stat.S_IMODE(found.st_mode):o}; a plan is"
            f" executable code: chmod go-w {path} and build what is in it anew, or name another folder"
        )
    if found.st_uid not in (os.geteuid(), 0):
        raise DeviceError(
            f"{path}: expected to belong to user {os.geteuid()} or root, found user {found.st_uid}; a plan is"
            " executable code: run as that user, or build into a folder of your own"
        )


def _read(path: Path, limit: int) -> bytes:
    """Return a file's bytes, at most one more than `limit`; links, pipes and files of others are refused."""
    try:
        with open_regular(path, os.O_NOFOLLOW) as stream:
            found = os.fstat(stream.fileno())
            _check_owner(path, found)
            return stream.read(min(found.st_size, limit + 1))
    except OSError as error:
        raise _UnfitError(f"{path.name} cannot be read ({error.strerror})") from error
    except BundleError as error:
        raise _UnfitError(f"{path.name} is not a regular file") from error
    except DeviceError as error:
        raise _UnfitError(str(error)) from error
