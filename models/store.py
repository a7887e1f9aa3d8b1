"""The store: where a drone keeps its bundle and the last good one, and changes over between two instants.

<store>/
    current            link to the bundle that flies: always a whole one that passed its self-test
    store.yaml         the good ones, newest first, and the newest release of each name: older ones are refused
    lock               held while something is installed
    slots/<name>-<version>.<n>.uavb
"""

import contextlib
import fcntl
import itertools
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from models.bundle import Bundle, open_bundle
from models.disk import replace_file, replace_link, sync_folder, write_folder
from models.errors import BundleError, ConfigError
from models.schema import dump_yaml, load_yaml

CURRENT = "current"
KEPT = 2
"""Good bundles that stay: the one that flies, and the one before."""

SelfTest = Callable[[Bundle], object]
"""Raises BundleError where a bundle does not run on this machine as it did when it was made."""

_SLOT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*-[0-9]+\.[0-9]+\.uavb")


class _Newest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    version: int
    sha256: str


class _State(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    slots: tuple[str, ...] = ()
    """Folders of good bundles, newest first."""
    newest: dict[str, _Newest] = {}
    """By name: the newest release that ever flew from here."""

    def __post_init__(self) -> None:
        strange = [name for name in self.slots if not _SLOT.fullmatch(name)]
        if strange:
            raise ValueError(f"slots {strange}: expected <name>-<version>.<n>.uavb")


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """What flew before and what flies now."""

    before: str | None
    """`name-version`; None where nothing was installed."""
    now: str
    is_change: bool = True
    """False where just this bundle flew already."""


def install(store: Path, bundle: Bundle, self_test: SelfTest, *, may_downgrade: bool = False) -> Change:
    """Put a verified bundle into a store, and let it fly if it passes its self-test there.

    A kill or a power cut at any moment leaves the old or the new bundle as `current`, whole; what it leaves behind is
    cleared by the next installation. A bundle that fails never becomes `current`: the last good one stays.

    Raises:
        BundleError: older than what this name flew before, or another bundle of the same version; it failed its
            self-test; or an installation is under way.
    """
    with _locked(store):
        flying = _flying_slot(store)
        state = _recover(store, flying)
        if flying is not None and _is_in(store / CURRENT, bundle):
            return Change(before=_title(flying), now=_title(flying), is_change=False)
        if not may_downgrade:
            _refuse_older(state, bundle, store)
        kept = _from(state.slots, flying)
        slot = _write_slot(store, bundle)
        _try_slot(store, slot, bundle, self_test, flying)
        newest = _with_newest(state.newest, bundle)
        _write_state(store, _State(slots=(slot, *kept), newest=newest))
        replace_link(store / CURRENT, f"slots/{slot}")
        good = (slot, *kept)[:KEPT]
        _write_state(store, _State(slots=good, newest=newest))
        _clear(store, set(good))
    return Change(before=None if flying is None else _title(flying), now=_title(slot))


def roll_back(store: Path, self_test: SelfTest) -> Change:
    """Let the good bundle before the current one fly again.

    Raises:
        BundleError: there is none, or it is damaged or fails its self-test; the current one stays.
    """
    with _locked(store):
        flying = _flying_slot(store)
        older = [slot for slot in _from(_recover(store, flying).slots, flying) if slot != flying]
        if flying is None or not older:
            raise BundleError(f"{store}: no good bundle before {_named(flying)}: install one instead")
        self_test(open_bundle(_slots(store) / older[0]))
        replace_link(store / CURRENT, f"slots/{older[0]}")
    return Change(before=_title(flying), now=_title(older[0]))


def _recover(store: Path, flying: str | None) -> _State:
    """Return the state, after what a killed installation left was cleared."""
    state = _read_state(store)
    if len(state.slots) > KEPT:  # it was about to change over, or had just done so
        state = msgspec.structs.replace(state, slots=_from(state.slots, flying)[:KEPT])
        _write_state(store, state)
    _clear(store, {*state.slots, flying})
    return state


def _refuse_older(state: _State, bundle: Bundle, store: Path) -> None:
    known = state.newest.get(bundle.manifest.name)
    version = bundle.manifest.version
    if known is None or version > known.version or (version == known.version and bundle.sha256 == known.sha256):
        return
    what = "older than" if version < known.version else "another bundle of the same version as"
    raise BundleError(
        f"{bundle.path}: {bundle.manifest.title} is {what} {bundle.manifest.name}-{known.version}, which {store} has"
        " had: count its version up, or install it with --allow-downgrade"
    )


def _with_newest(newest: dict[str, _Newest], bundle: Bundle) -> dict[str, _Newest]:
    """Return the newest releases once a bundle has flown; one that was downgraded to is not the newest."""
    name, version = bundle.manifest.name, bundle.manifest.version
    if name in newest and version < newest[name].version:
        return newest
    return {**newest, name: _Newest(version=version, sha256=bundle.sha256)}


def _write_slot(store: Path, bundle: Bundle) -> str:
    """Write the bytes that were verified, not the file they came from, under a name that is free."""
    slots = _slots(store)
    taken = {path.name for path in slots.iterdir()}
    names = (f"{bundle.manifest.title}.{number}.uavb" for number in itertools.count(1))
    slot = next(name for name in names if name not in taken)
    incoming = slots / ".incoming"
    try:
        write_folder(incoming, {**bundle.head, **bundle.contents})
        incoming.rename(slots / slot)
    finally:
        shutil.rmtree(incoming, ignore_errors=True)
    sync_folder(slots)
    return slot


def _try_slot(store: Path, slot: str, bundle: Bundle, self_test: SelfTest, flying: str | None) -> None:
    """Read a slot back and test it; one that fails is removed."""
    try:
        written = open_bundle(_slots(store) / slot)
        if written.sha256 != bundle.sha256:
            raise BundleError(f"{written.path}: was changed while it was installed: look who else writes there")
        self_test(written)
    except BundleError as error:
        shutil.rmtree(_slots(store) / slot)
        stays = f"rolled back to {_title(flying)}, which flies on" if flying is not None else "nothing is installed"
        raise BundleError(f"{bundle.manifest.title} failed its self-test: {stays}: {error}") from error


def _is_in(slot: Path, bundle: Bundle) -> bool:
    """Say whether a slot holds just this bundle, undamaged."""
    try:
        return open_bundle(slot).head == bundle.head
    except BundleError:
        return False


def _flying_slot(store: Path) -> str | None:
    """Return the slot that `current` names; None where nothing is installed."""
    link = store / CURRENT
    if not link.is_symlink():
        if link.exists():
            raise BundleError(f"{link}: expected a link that an installation made: name another folder as store")
        return None
    name = link.readlink().name
    if not _SLOT.fullmatch(name) or link.readlink() != Path("slots") / name:
        raise BundleError(f"{link}: leads to {link.readlink()}, expected slots/<bundle>: remove it, and install anew")
    return name


def _from(slots: tuple[str, ...], flying: str | None) -> tuple[str, ...]:
    """Return the good slots from the one that flies onwards: newer ones were rolled back from, or never flew."""
    if flying is None:
        return ()
    return slots[slots.index(flying) :] if flying in slots else (flying,)


def _clear(store: Path, kept: set[str | None]) -> None:
    """Remove what no list names: bundles that were replaced, and what a killed installation left."""
    for path in _slots(store).iterdir():
        if path.name not in kept:
            shutil.rmtree(path)
    sync_folder(_slots(store))


def _read_state(store: Path) -> _State:
    path = store / "store.yaml"
    try:
        return load_yaml(path, _State) if path.exists() else _State()
    except ConfigError as error:
        raise BundleError(f"{error}\n{path}: remove it to forget which releases flew, and install anew") from error


def _write_state(store: Path, state: _State) -> None:
    replace_file(store / "store.yaml", [dump_yaml(state)])


@contextlib.contextmanager
def _locked(store: Path) -> Iterator[None]:
    """Keep a second installation out; the lock goes with the process that holds it."""
    _slots(store).mkdir(parents=True, exist_ok=True)
    with (store / "lock").open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BundleError(f"{store}: another installation is under way: try again when it is done") from error
        yield


def _slots(store: Path) -> Path:
    return store / "slots"


def _title(slot: str) -> str:
    """Return `name-version` of a slot."""
    return slot.rpartition(".")[0].rpartition(".")[0]


def _named(slot: str | None) -> str:
    return "the current one" if slot is None else _title(slot)
