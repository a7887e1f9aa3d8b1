"""Installs bundles and kills the installation: at every call to the file system in turn, or at random moments.

python tests/install_until_killed.py [COUNT [STEP]]     prints lines of JSON: deaths, and what flew after them

COUNT random moments (200), and every STEP-th call (1).

Children are forked from this process, which has one thread.
"""

import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path

import msgspec
from bundles import CONTENTS, MANIFEST

from models.bundle import Bundle, open_bundle, write_bundle
from models.store import install, roll_back

CALLS = {"open", "os.rename", "os.symlink", "os.mkdir", "os.remove", "os.rmdir", "os.scandir", "os.listdir"}
"""What Python tells an audit hook of; flushing is counted beside it."""


def release(folder: Path, version: int, padding_bytes: int = 0) -> Bundle:
    """Return a verified bundle of a version."""
    manifest = msgspec.structs.replace(MANIFEST, version=version)
    contents = CONTENTS | {"reports/verify.html": bytes([version % 256]) * (1000 + padding_bytes)}
    return open_bundle(write_bundle(folder, manifest, contents))


def put(store: Path, bundle: Bundle) -> None:
    """Install with a self-test that always passes."""
    install(store, bundle, lambda _: None)


def version_of(path: Path) -> int | None:
    """Return the version of a whole bundle; None where there is no bundle at all."""
    return open_bundle(path).manifest.version if os.path.lexists(path) else None


def in_child(work: Callable[[], None]) -> int:
    """Start something in a child process, and return its process id."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        work()
        code = 0
    finally:
        if code:
            traceback.print_exc()
        os._exit(code)  # nothing of the parent's is unwound here


def is_killed(child: int) -> bool:
    """Wait for a child, and say whether it was killed before its end."""
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        raise RuntimeError(f"the child failed with {os.WEXITSTATUS(status)}")
    return os.WIFSIGNALED(status)


def die_at(number: int) -> None:
    """Let this process be killed at its call to the file system of that number."""
    calls = 0

    def count(event: str, arguments: object) -> None:
        nonlocal calls
        if event not in CALLS:  # the kill is an event too
            return
        calls += 1
        if calls == number:
            os.kill(os.getpid(), signal.SIGKILL)

    os.fsync = lambda opened: count("open", ())  # what a kill leaves is in memory: to flush it only takes time
    sys.addaudithook(count)


def die_installing(store: Path, bundle: Bundle, number: int) -> None:
    """Install until the call of that number, if there are so many."""
    die_at(number)
    put(store, bundle)


def every_call(folder: Path, before: int, step: int) -> list[int | None]:
    """Kill the installation of version 9 at every step-th call, and return what flew then.

    So many versions were installed before. Every time the same installation is done again, to its end, and rolled back.
    """
    os.fsync = lambda opened: None
    old = [release(folder, version) for version in range(1, before + 1)]
    new = release(folder, 9)
    for bundle in old:
        put(folder / "made", bundle)
    flew: list[int | None] = []
    while True:
        store = folder / "store"
        shutil.rmtree(store, ignore_errors=True)
        (folder / "made").mkdir(exist_ok=True)
        shutil.copytree(folder / "made", store, symlinks=True)
        number = 1 + len(flew) * step

        if not is_killed(in_child(partial(die_installing, store, new, number))):
            return flew
        flew.append(version_of(store / "current"))
        put(store, new)
        left = {path.name for path in (store / "slots").iterdir()}
        expected = [*old, new][-2:]
        if {name.rpartition("-")[2].partition(".")[0] for name in left} != {str(b.manifest.version) for b in expected}:
            raise RuntimeError(f"after call {number}: {left} is left")
        if before:
            roll_back(store, lambda _: None)
            if version_of(store / "current") != before:
                raise RuntimeError(f"after call {number}: rolled back to {version_of(store / 'current')}")


def random_moments(folder: Path, count: int, seed: int) -> list[str]:
    """Kill so many installations, each of a newer version, at random moments; return whether old or new flew then."""
    source, store = random.Random(seed), folder / "store"
    flying: int | None = 1
    started_s = time.monotonic()
    put(store, release(folder, 1, 1 << 20))
    longest_s = 2 * (time.monotonic() - started_s)
    flew: list[str] = []
    version = 1
    while len(flew) < count:
        version += 1
        new = release(folder, version, 1 << 20)
        child = in_child(partial(put, store, new))
        time.sleep(source.uniform(0, longest_s))
        os.kill(child, signal.SIGKILL)
        killed = is_killed(child)
        now = version_of(store / "current")
        if now not in (flying, version):
            raise RuntimeError(f"version {now} flies, expected {flying} or {version}")
        if killed:
            flew.append("new" if now == version else "old")
        flying = now
        shutil.rmtree(new.path)
    return flew


def main() -> None:
    """Do both, and print what came of it."""
    given = [int(word) for word in sys.argv[1:]]
    count, step = given + [200, 1][len(given) :]
    with tempfile.TemporaryDirectory() as name:
        moments = random_moments(Path(name) / "random", count, seed=7)
        flew_then = {kind: moments.count(kind) for kind in ("old", "new")}
        print(json.dumps({"killed_at_random_moments": len(moments), "flew": flew_then}), flush=True)
        for before in (0, 1, 2):
            folder = Path(name) / str(before)
            flew = every_call(folder, before, step)
            versions = {str(version): flew.count(version) for version in dict.fromkeys(flew)}
            print(json.dumps({"killed_at_calls": len(flew), "installed_before": before, "flew": versions}))


if __name__ == "__main__":
    main()
