import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from install_until_killed import put, release, version_of

from models.bundle import Bundle, open_bundle, pack_bundle
from models.errors import BundleError
from models.manifest import Manifest, parse_manifest
from models.store import Change, install, roll_back


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


def passes(bundle: Bundle) -> None:
    """A self-test that finds nothing."""


def fails(bundle: Bundle) -> None:
    raise BundleError("answers differ from the golden examples by 7")


def slots(store: Path) -> list[str]:
    return sorted(path.name for path in (store / "slots").iterdir())


def refused(store: Path, bundle: Bundle) -> str:
    before = version_of(store / "current"), slots(store)
    with pytest.raises(BundleError) as caught:
        install(store, bundle, passes)
    assert (version_of(store / "current"), slots(store)) == before
    return str(caught.value)


def test_what_is_installed_is_what_flies(store: Path, tmp_path: Path) -> None:
    bundle = release(tmp_path, 3)
    assert install(store, bundle, passes) == Change(before=None, now="demo-3")
    flying = open_bundle(store / "current")
    assert (flying.sha256, flying.contents) == (bundle.sha256, bundle.contents)
    assert flying.path == store / "slots" / "demo-3.1.uavb"


def test_the_self_test_sees_the_bundle_where_it_will_fly(store: Path, tmp_path: Path) -> None:
    tested: list[Path] = []
    install(store, release(tmp_path, 3), lambda bundle: tested.append(bundle.path))
    assert tested == [store / "slots" / "demo-3.1.uavb"]


def test_an_archive_is_installed_as_a_folder(store: Path, tmp_path: Path) -> None:
    archive = pack_bundle(release(tmp_path, 3), tmp_path)
    install(store, open_bundle(archive), passes)
    assert (store / "current").resolve().is_dir()
    assert version_of(store / "current") == 3


def test_two_good_bundles_are_kept_and_the_one_before_can_fly_again(store: Path, tmp_path: Path) -> None:
    for version in (1, 2, 3):
        put(store, release(tmp_path, version))
    assert slots(store) == ["demo-2.1.uavb", "demo-3.1.uavb"]
    assert roll_back(store, passes) == Change(before="demo-3", now="demo-2")
    assert version_of(store / "current") == 2
    with pytest.raises(BundleError, match="no good bundle before demo-2: install one instead"):
        roll_back(store, passes)


def test_after_a_roll_back_the_next_installation_drops_what_was_rolled_back_from(store: Path, tmp_path: Path) -> None:
    for version in (1, 2):
        put(store, release(tmp_path, version))
    roll_back(store, passes)
    put(store, release(tmp_path, 3))
    assert slots(store) == ["demo-1.1.uavb", "demo-3.1.uavb"]
    assert roll_back(store, passes).now == "demo-1"


def test_a_store_without_bundle_has_nothing_to_roll_back_to(store: Path) -> None:
    with pytest.raises(BundleError, match="no good bundle before the current one"):
        roll_back(store, passes)


def test_a_bundle_that_fails_its_self_test_never_flies(store: Path, tmp_path: Path) -> None:
    put(store, release(tmp_path, 1))
    with pytest.raises(BundleError) as caught:
        install(store, release(tmp_path, 2), fails)
    assert str(caught.value) == (
        "demo-2 failed its self-test: rolled back to demo-1, which flies on:"
        " answers differ from the golden examples by 7"
    )
    assert version_of(store / "current") == 1
    assert slots(store) == ["demo-1.1.uavb"]


def test_a_first_bundle_that_fails_leaves_nothing_installed(store: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="demo-1 failed its self-test: nothing is installed: answers differ"):
        install(store, release(tmp_path, 1), fails)
    assert version_of(store / "current") is None
    assert slots(store) == []


def test_a_bundle_that_failed_once_may_be_tried_again(store: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError):
        install(store, release(tmp_path, 1), fails)
    assert install(store, release(tmp_path, 1), passes).now == "demo-1"


def test_a_roll_back_to_a_bundle_that_fails_or_is_damaged_is_not_done(store: Path, tmp_path: Path) -> None:
    for version in (1, 2):
        put(store, release(tmp_path, version))
    with pytest.raises(BundleError, match="answers differ"):
        roll_back(store, fails)
    (store / "slots" / "demo-1.1.uavb" / "golden" / "io.npz").write_bytes(b"rotten")
    with pytest.raises(BundleError, match=r"golden/io\.npz: expected 256 bytes"):
        roll_back(store, passes)
    assert version_of(store / "current") == 2


def test_an_older_release_is_refused_even_after_a_roll_back(store: Path, tmp_path: Path) -> None:
    for version in (2, 4):
        put(store, release(tmp_path, version))
    roll_back(store, passes)
    assert "demo-3 is older than demo-4, which" in refused(store, release(tmp_path, 3))
    assert "install it with --allow-downgrade" in refused(store, release(tmp_path, 1))
    assert install(store, release(tmp_path, 3), passes, may_downgrade=True).now == "demo-3"
    assert install(store, release(tmp_path, 4), passes).now == "demo-4"


def test_a_downgrade_does_not_open_the_door_to_other_old_releases(store: Path, tmp_path: Path) -> None:
    for version in (1, 4):
        put(store, release(tmp_path, version))
    install(store, release(tmp_path, 2), passes, may_downgrade=True)
    assert "demo-3 is older than demo-4, which" in refused(store, release(tmp_path, 3))
    assert install(store, release(tmp_path, 4), passes).now == "demo-4"


def test_another_bundle_of_the_same_version_is_refused(store: Path, tmp_path: Path) -> None:
    put(store, release(tmp_path, 2))
    twin = release(tmp_path / "twin", 2, padding_bytes=1)
    assert "demo-2 is another bundle of the same version as demo-2" in refused(store, twin)
    assert install(store, twin, passes, may_downgrade=True).is_change
    assert open_bundle(store / "current").sha256 == twin.sha256


def test_a_release_that_was_rolled_back_from_may_come_again(store: Path, tmp_path: Path) -> None:
    for version in (1, 2):
        put(store, release(tmp_path, version))
    roll_back(store, passes)
    assert install(store, release(tmp_path, 2), passes) == Change(before="demo-1", now="demo-2")
    assert slots(store) == ["demo-1.1.uavb", "demo-2.2.uavb"]


def test_the_same_bundle_again_changes_nothing(store: Path, tmp_path: Path) -> None:
    put(store, release(tmp_path, 1))
    change = install(store, release(tmp_path, 1), fails)
    assert change == Change(before="demo-1", now="demo-1", is_change=False)
    assert slots(store) == ["demo-1.1.uavb"]


def test_the_same_bundle_again_heals_one_that_is_damaged(store: Path, tmp_path: Path) -> None:
    put(store, release(tmp_path, 1))
    (store / "slots" / "demo-1.1.uavb" / "golden" / "io.npz").write_bytes(b"rotten")
    assert install(store, release(tmp_path, 1), passes).is_change
    assert version_of(store / "current") == 1


def test_what_a_killed_installation_left_is_cleared(store: Path, tmp_path: Path) -> None:
    put(store, release(tmp_path, 1))
    shutil.copytree(store / "slots" / "demo-1.1.uavb", store / "slots" / ".incoming")
    shutil.copytree(store / "slots" / "demo-1.1.uavb", store / "slots" / "demo-2.1.uavb")
    (store / ".current.partial").symlink_to("slots/demo-2.1.uavb")
    (store / ".store.yaml.partial").write_text("half")
    put(store, release(tmp_path, 3))
    assert slots(store) == ["demo-1.1.uavb", "demo-3.1.uavb"]
    assert sorted(path.name for path in store.iterdir()) == ["current", "lock", "slots", "store.yaml"]


def test_a_reader_that_an_installation_overtakes_reads_one_bundle(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = release(tmp_path, 1), release(tmp_path, 2)
    put(store, old)

    def overtaken(text: bytes, where: str) -> Manifest:
        monkeypatch.undo()
        put(store, new)
        return parse_manifest(text, where)

    monkeypatch.setattr("models.bundle.parse_manifest", overtaken)
    assert open_bundle(store / "current").contents == old.contents
    assert open_bundle(store / "current").contents == new.contents


def test_two_installations_at_once_are_refused(store: Path, tmp_path: Path) -> None:
    def install_too(bundle: Bundle) -> None:
        put(store, bundle)

    with pytest.raises(BundleError, match="another installation is under way"):
        install(store, release(tmp_path, 1), install_too)


def test_a_folder_that_is_no_store_is_not_touched(store: Path, tmp_path: Path) -> None:
    (store / "current").mkdir(parents=True)
    with pytest.raises(BundleError, match="expected a link that an installation made"):
        install(store, release(tmp_path, 1), passes)
    (store / "current").rmdir()
    (store / "current").symlink_to(tmp_path)
    with pytest.raises(BundleError, match="expected slots/<bundle>"):
        install(store, release(tmp_path, 1), passes)


@pytest.mark.parametrize("text", ["slots: [../../home]", "slots: [", "slots: []\nother: 1", "slots: [.incoming]"])
def test_a_damaged_state_is_named_with_its_remedy(store: Path, tmp_path: Path, text: str) -> None:
    put(store, release(tmp_path, 1))
    (store / "store.yaml").write_text(text)
    assert "store.yaml: remove it to forget which releases flew" in refused(store, release(tmp_path, 2))
    (store / "store.yaml").unlink()
    assert install(store, release(tmp_path, 2), passes).before == "demo-1"
    assert roll_back(store, passes).now == "demo-1"


def test_a_full_disk_leaves_the_old_bundle(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(store, release(tmp_path, 1))
    new = release(tmp_path, 2)

    def full(opened: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            install(store, new, passes)
    assert version_of(store / "current") == 1
    assert slots(store) == ["demo-1.1.uavb"]


def test_killed_at_any_call_or_moment_the_old_or_the_new_bundle_flies(root: Path) -> None:
    done = subprocess.run(
        [sys.executable, "tests/install_until_killed.py", "5", "6"],
        cwd=root, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    moments, fresh, one, two = map(json.loads, done.stdout.splitlines())
    assert moments["killed_at_random_moments"] == 5
    assert set(fresh["flew"]) == {"None", "9"}
    assert set(one["flew"]) == {"1", "9"}
    assert set(two["flew"]) == {"2", "9"}


class Platter:
    """What a power cut leaves at the worst: of files and folders what was last flushed, and nothing else."""

    def __init__(self, folder: Path) -> None:
        self.root = folder.stat().st_ino
        self.files: dict[int, bytes] = {}
        self.folders: dict[int, list[tuple[str, int, str]]] = {}
        for path in (folder, *folder.rglob("*")):
            if not path.is_symlink():
                self.flush(path)

    def flush(self, path: Path) -> None:
        if not path.is_dir():
            self.files[path.stat().st_ino] = path.read_bytes()
            return
        self.folders[path.stat().st_ino] = [
            (one.name, one.inode(), str(Path(one.path).readlink()) if one.is_symlink() else "")
            for one in os.scandir(path)
        ]

    def restore(self, folder: Path, number: int) -> None:
        folder.mkdir()
        for name, inode, target in self.folders.get(number, []):
            if target:
                (folder / name).symlink_to(target)
            elif inode in self.folders:
                self.restore(folder / name, inode)
            else:
                (folder / name).write_bytes(self.files.get(inode, b""))


def test_at_a_power_cut_all_that_was_not_flushed_may_be_lost(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for version in (1, 2):
        put(store, release(tmp_path, version))
    new, platter, flush = release(tmp_path, 3), Platter(store), os.fsync
    flew: list[int | None] = []

    def flush_and_cut(opened: int) -> None:
        flush(opened)
        platter.flush(Path(f"/proc/self/fd/{opened}").resolve())
        rest = tmp_path / f"cut-{len(flew)}"
        platter.restore(rest, platter.root)
        flew.append(version_of(rest / "current"))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", flush_and_cut)
        put(store, new)
    assert flew == sorted(flew)
    assert set(flew) == {2, 3}
    monkeypatch.setattr(os, "fsync", lambda opened: None)
    for number in range(len(flew)):
        put(tmp_path / f"cut-{number}", new)
        assert version_of(tmp_path / f"cut-{number}" / "current") == 3
        assert len(slots(tmp_path / f"cut-{number}")) == 2
