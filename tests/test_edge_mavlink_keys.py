import hashlib
import stat
import threading
from pathlib import Path
from typing import Any

import pytest
from signatures import KEY, NOW, SECOND, UTC_NS, Calendar, command, signed

from edge.cli import main
from edge.mavlink.trust import keys
from edge.mavlink.trust.keys import SAVE_NS, KeyRing, OpenKey, make_key
from edge.mavlink.trust.signing import MARGIN, Refusal
from models.errors import ConfigError

PATIENCE_S = 20


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A key file."""
    place = tmp_path / "key"
    place.write_bytes(KEY)
    place.chmod(0o600)
    return place


def killed(path: Path, newest: int) -> None:
    """Leave a key as a process leaves it that was killed after it had saved this time."""
    path.with_name("key.time").write_text(f"mavlink-signing-time 1 {newest} running\n")


def finish_saving(key: OpenKey, now_ns: int) -> None:
    """Wait until what is being saved is saved, and let the key notice it."""
    assert key._saver is not None
    key._saver.join(PATIENCE_S)
    key.poll(now_ns)


def test_a_new_key_is_random_and_its_owners_alone(tmp_path: Path) -> None:
    make_key(tmp_path / "one")
    make_key(tmp_path / "other")

    one, other = (tmp_path / "one").read_bytes(), (tmp_path / "other").read_bytes()
    assert len(one) == len(other) == 32
    assert one != other
    assert stat.S_IMODE((tmp_path / "one").stat().st_mode) == 0o600


def test_a_passphrase_gives_the_key_that_ground_stations_make_of_it(tmp_path: Path) -> None:
    make_key(tmp_path / "key", "high over the hills")

    assert (tmp_path / "key").read_bytes() == hashlib.sha256(b"high over the hills").digest()


def test_a_key_is_never_overwritten(path: Path) -> None:
    with pytest.raises(ConfigError, match="never overwritten"):
        make_key(path)

    assert path.read_bytes() == KEY


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o777])
def test_a_key_that_others_can_read_is_refused_with_the_remedy(path: Path, mode: int) -> None:
    path.chmod(mode)

    with pytest.raises(ConfigError, match=f"mode {mode:o}.*: chmod 600 {path}"):
        OpenKey(path)


def test_a_key_of_another_user_is_refused_with_the_remedy(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 12_345)

    with pytest.raises(ConfigError, match=f"another user .*: sudo chown 12345 {path}"):
        OpenKey(path)


@pytest.mark.parametrize("content", [b"", KEY[:31], KEY + b"\n", KEY.hex().encode()])
def test_what_is_not_32_bytes_is_no_key(path: Path, content: bytes) -> None:
    path.write_bytes(content)

    with pytest.raises(ConfigError, match="expected a key file of 32 bytes"):
        OpenKey(path)


def test_an_absent_key_is_refused_with_the_command_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="uav-edge mavlink keygen"):
        OpenKey(tmp_path / "absent")


def test_a_key_serves_one_process_at_a_time(path: Path) -> None:
    key = OpenKey(path)
    with pytest.raises(ConfigError, match="another process signs with this key"):
        OpenKey(path)
    key.close()

    OpenKey(path).close()


def test_links_with_the_same_key_share_what_was_heard(path: Path) -> None:
    ring = KeyRing([str(path), None, str(path)], Calendar())
    one, none, other = ring.signing(str(path)), ring.signing(None), ring.signing(str(path))
    ring.close()

    assert one is other
    assert none is None


def test_an_orderly_end_is_followed_by_a_start_that_knows_all_old_frames(path: Path) -> None:
    before = OpenKey(path, Calendar())
    frame = signed(command(), NOW + 5 * SECOND)
    assert before.signing.check(frame) is None
    before.close()

    after = OpenKey(path, Calendar(UTC_NS + 10**9))

    assert after.signing.check(frame) == Refusal.TOO_OLD
    assert after.signing.newest == NOW + 5 * SECOND
    after.close()


def test_a_killed_process_is_followed_by_one_that_knows_all_old_frames(path: Path) -> None:
    killed(path, NOW)

    after = OpenKey(path, Calendar(UTC_NS + 10**9))

    assert after.signing.newest == NOW + MARGIN
    assert after.signing.check(signed(command(), NOW + MARGIN)) == Refusal.TOO_OLD
    assert after.signing.check(signed(command(), NOW + MARGIN + 1)) is None
    after.close()


def test_the_time_is_saved_every_ten_seconds(path: Path) -> None:
    calendar = Calendar()
    key = OpenKey(path, calendar)
    key.poll(0)
    assert key.signing.check(signed(command(), NOW + SECOND)) is None

    key.poll(SAVE_NS - 1)
    assert str(NOW + SECOND) not in path.with_name("key.time").read_text()
    key.poll(SAVE_NS)
    finish_saving(key, SAVE_NS)

    assert path.with_name("key.time").read_text() == f"mavlink-signing-time 1 {NOW + SECOND:015d} running\n"
    key.close()


def test_a_peer_far_ahead_counts_as_soon_as_that_is_saved(path: Path) -> None:
    key = OpenKey(path, Calendar())
    frame = signed(command(), NOW + 86_400 * SECOND)
    assert key.signing.check(frame) == Refusal.NOT_SAVED

    key.poll(0)
    finish_saving(key, 0)

    assert key.signing.check(frame) is None
    key.close()


def test_a_slow_disk_holds_nobody_up(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = OpenKey(path, Calendar())
    go, write = threading.Event(), keys._write_time

    def write_slowly(*args: Any, **kwargs: Any) -> None:
        assert go.wait(PATIENCE_S)
        write(*args, **kwargs)

    monkeypatch.setattr(keys, "_write_time", write_slowly)
    assert key.signing.check(signed(command(), NOW + 86_400 * SECOND)) == Refusal.NOT_SAVED
    for now_ns in range(100):
        key.poll(now_ns)
    assert key.signing.needs_saving
    go.set()
    finish_saving(key, 100)

    assert not key.signing.needs_saving
    key.close()


def test_a_full_disk_is_told_once_and_commands_go_on(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    key = OpenKey(path, Calendar())

    def write_nothing(*args: Any, **kwargs: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(keys, "_write_time", write_nothing)
    for day in (1, 2):
        frame = signed(command(), NOW + day * 86_400 * SECOND)
        key.signing.check(frame)
        key.poll(day)
        finish_saving(key, day)
        assert key.signing.check(frame) is None
    key.close()

    assert [record.message.split(": ", 1)[1] for record in caplog.records] == [
        "cannot be written (No space left on device): make room; until then a restart forgets which frames are old"
    ]


@pytest.mark.parametrize("saved", [1, NOW])
def test_a_full_disk_still_holds_the_time(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, saved: int
) -> None:
    key = OpenKey(path, Calendar())
    path.with_name("key.time").write_text(f"mavlink-signing-time 1 {saved} running\n")

    def write_nothing(*args: Any, **kwargs: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(keys, "replace_file", write_nothing)
    frame = signed(command(), NOW + 86_400 * SECOND)
    key.signing.check(frame)
    key.poll(0)
    finish_saving(key, 0)
    assert key.signing.check(frame) is None
    text = path.with_name("key.time").read_text()
    key.close()
    monkeypatch.undo()

    assert text == f"mavlink-signing-time 1 {NOW + 86_400 * SECOND:015d} running\n"
    assert path.with_name("key.time").read_text().endswith(" ended\n")
    assert caplog.records == []
    after = OpenKey(path, Calendar())
    assert after.signing.check(frame) == Refusal.TOO_OLD
    after.close()


def test_a_damaged_time_is_refused_with_what_it_costs(path: Path) -> None:
    path.with_name("key.time").write_bytes(b"\0" * 40)

    with pytest.raises(ConfigError, match="damaged: remove it, and know"):
        OpenKey(path)


def test_a_folder_that_cannot_be_written_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write_nothing(*args: Any, **kwargs: Any) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(keys, "_write_time", write_nothing)

    with pytest.raises(ConfigError, match="keep the key in a folder of this user"):
        OpenKey(path)


def test_keygen_makes_a_key_that_a_link_takes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mavlink", "keygen", str(tmp_path / "key")]) == 0
    assert main(["mavlink", "keygen", str(tmp_path / "key")]) == 2

    OpenKey(tmp_path / "key").close()
    assert (tmp_path / "key").read_bytes().hex() not in capsys.readouterr().out


def test_keygen_asks_for_a_passphrase(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter(["secret", "secret", "secret", "typo", "", ""])
    monkeypatch.setattr("getpass.getpass", lambda prompt: next(answers))

    assert main(["mavlink", "keygen", str(tmp_path / "key"), "--passphrase"]) == 0
    assert main(["mavlink", "keygen", str(tmp_path / "other"), "--passphrase"]) == 2
    assert main(["mavlink", "keygen", str(tmp_path / "third"), "--passphrase"]) == 2

    assert (tmp_path / "key").read_bytes() == hashlib.sha256(b"secret").digest()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["key"]
