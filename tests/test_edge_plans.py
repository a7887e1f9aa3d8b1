import hashlib
import multiprocessing
import os
import stat
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.backends import plans
from edge.backends.plan_key import BUILDER_REVISION, BuilderOptions, DeviceFacts, PlanKey, Platform, plan_key
from edge.backends.plans import Limits, PlanCache, check_folder
from models.errors import DeviceError, RecordingError

ORIN = DeviceFacts(compute_capability="8.7", gpu="Orin", sm_count=16, driver="540.4.0", l4t="36.4.3")
SHAPE = ((1, 2, 64), (1, 2, 64), (1, 2, 64))
PLAN = bytes(range(256)) * 4
OTHER = {
    "onnx_sha256": "0" * 64,
    "provider": "tensorrt_rtx",
    "version": "10.3.0.30",
    "compute_capability": "8.6",
    "gpu": "Thor",
    "sm_count": 14,
    "driver": "540.5.0",
    "l4t": "36.5.0",
    "revision": BUILDER_REVISION - 1,
    "options": BuilderOptions(optimization_level=5).as_text(),
    "profile": {"input": ((1, 2, 64), (1, 2, 64), (8, 2, 64))},
}
"""Of every field of the key another value."""


def key_of(graph=b"graph"):
    platform = Platform(provider="tensorrt", version="10.3.0.26", facts=ORIN)
    return plan_key(graph, platform, BuilderOptions(), {"input": SHAPE})


KEY = key_of()


@pytest.fixture
def cache(tmp_path):
    return PlanCache(tmp_path / "plans", command="uav-calibrate build --bundle b.uavb --plans p")


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A cache with one plan, for examples that do not change it for long."""
    cache = PlanCache(tmp_path_factory.mktemp("shared") / "plans")
    return cache, cache.store(KEY, PLAN, "small")


def files(cache):
    return sorted(path.name for path in cache.folder.iterdir() if path.name != "lock")


def test_a_stored_plan_comes_back(cache):
    cache.store(KEY, PLAN, "small")
    found = cache.look_up(KEY)
    assert (found.plan, found.reason) == (PLAN, "")
    assert found.entry is not None
    assert found.entry.title == "small"


def test_a_folder_that_is_absent_holds_no_plan_and_is_not_made(cache):
    assert cache.look_up(KEY).plan is None
    assert cache.explain(KEY) == [
        f"{cache.folder}: no plan of this graph: rebuild with uav-calibrate build --bundle b.uavb --plans p"
    ]
    assert not cache.folder.exists()


def test_every_field_of_the_key_has_another_value_here():
    assert set(OTHER) == set(PlanKey.__struct_fields__)
    assert all(getattr(KEY, field) != value for field, value in OTHER.items())


@pytest.mark.parametrize("field", OTHER)
def test_a_plan_is_not_handed_out_for_a_key_that_differs_in_one_field(cache, field):
    cache.store(KEY, PLAN, "small")
    wanted = msgspec.structs.replace(KEY, **{field: OTHER[field]})
    assert cache.look_up(wanted).plan is None


SHAPES = st.lists(st.integers(1, 9), max_size=3).map(tuple)
VALUES = {
    "onnx_sha256": st.binary(max_size=4).map(lambda data: hashlib.sha256(data).hexdigest()),
    "provider": st.just("tensorrt_rtx"),
    "sm_count": st.integers(0, 200),
    "revision": st.integers(0, 200),
    "profile": st.dictionaries(st.text(), st.tuples(SHAPES, SHAPES, SHAPES), max_size=3),
}
"""Values of the fields that are not any text."""


@given(st.sampled_from(sorted(OTHER)), st.data())
def test_a_plan_is_not_handed_out_whatever_else_a_field_holds(shared, field, data):
    cache, _ = shared
    value = data.draw(VALUES.get(field, st.text()).filter(lambda value: value != getattr(KEY, field)))
    found = cache.look_up(msgspec.structs.replace(KEY, **{field: value}))
    assert found.plan is None
    assert "expected" in found.reason or "no plan of this graph" in found.reason


@pytest.mark.parametrize("field", OTHER)
def test_a_plan_under_the_name_of_another_key_is_not_handed_out(cache, field):
    entry = cache.store(KEY, PLAN, "small")
    wanted = msgspec.structs.replace(KEY, **{field: OTHER[field]})
    (cache.folder / f"{KEY.name}.json").rename(cache.folder / f"{wanted.name}.json")
    (cache.folder / entry.file).rename(cache.folder / entry.file.replace(KEY.name, wanted.name))
    found = cache.look_up(wanted)
    assert found.plan is None
    assert f"{field}: expected " in found.reason


@pytest.mark.parametrize("field", sorted(set(OTHER) - {"onnx_sha256"}))
def test_the_explanation_names_the_field_what_was_found_and_the_command(cache, field):
    cache.store(msgspec.structs.replace(KEY, **{field: OTHER[field]}), PLAN, "small")
    (line,) = cache.explain(KEY)
    assert f"{field}: expected " in line
    assert line.endswith("rebuild with uav-calibrate build --bundle b.uavb --plans p")


def test_the_explanation_is_of_the_nearest_plan(cache):
    cache.store(msgspec.structs.replace(KEY, driver="1", gpu="x", l4t="2"), PLAN, "far")
    cache.store(msgspec.structs.replace(KEY, driver="535.113"), PLAN, "near")
    (line,) = cache.explain(KEY)
    assert "driver: expected 540.4.0, found 535.113 (the software changed since)" in line


@given(st.data())
def test_a_plan_that_was_cut_is_refused(shared, data):
    cache, entry = shared
    (cache.folder / entry.file).write_bytes(PLAN[: data.draw(st.integers(0, len(PLAN) - 1))])
    found = cache.look_up(KEY)
    (cache.folder / entry.file).write_bytes(PLAN)
    assert found.plan is None
    assert f"expected {len(PLAN)} bytes with SHA-256" in found.reason
    assert cache.look_up(KEY).plan == PLAN


@given(st.integers(0, 8 * len(PLAN) - 1))
def test_a_plan_with_a_flipped_bit_is_refused(shared, bit):
    cache, entry = shared
    flipped = bytearray(PLAN)
    flipped[bit // 8] ^= 1 << bit % 8
    (cache.folder / entry.file).write_bytes(flipped)
    found = cache.look_up(KEY)
    (cache.folder / entry.file).write_bytes(PLAN)
    assert found.plan is None
    assert "SHA-256" in found.reason


@given(st.data())
def test_a_sidecar_with_a_flipped_bit_never_brings_another_plan(shared, data):
    cache, _ = shared
    sidecar = cache.folder / f"{KEY.name}.json"
    sound = sidecar.read_bytes()
    flipped = bytearray(sound)
    bit = data.draw(st.integers(0, 8 * len(sound) - 1))
    flipped[bit // 8] ^= 1 << bit % 8
    sidecar.write_bytes(flipped)
    found = cache.look_up(KEY)
    sidecar.write_bytes(sound)
    assert found.plan in (None, PLAN)  # PLAN where the bit was in the title or in white space
    assert (found.plan is None) == bool(found.reason)


def test_a_plan_larger_than_any_is_refused_unread(cache, monkeypatch):
    cache.store(KEY, PLAN, "small")
    monkeypatch.setattr(plans, "MAX_PLAN_BYTES", 1000)
    assert "a plan of 1024 bytes, expected at most 1000: rebuild with" in cache.look_up(KEY).reason


def test_a_longer_plan_is_refused(cache):
    entry = cache.store(KEY, PLAN, "small")
    (cache.folder / entry.file).write_bytes(PLAN + b"x")
    assert "1025 bytes" in cache.look_up(KEY).reason


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b'{"key": 1}', b"\xff\xfe", b"x" * (1 << 17)])
def test_a_sidecar_that_is_none_is_a_reason_to_rebuild(cache, text):
    cache.store(KEY, PLAN, "small")
    (cache.folder / f"{KEY.name}.json").write_bytes(text)
    assert "not what the plan cache wrote" in cache.look_up(KEY).reason
    assert cache.entries() == []
    cache.store(KEY, PLAN, "small")
    assert cache.look_up(KEY).plan == PLAN


def test_a_plan_without_a_sidecar_is_none_and_goes_with_the_next_one(cache):
    cache.store(KEY, PLAN, "small")
    (cache.folder / f"{KEY.name}.json").unlink()
    assert cache.look_up(KEY).plan is None
    other = cache.store(key_of(b"another"), PLAN, "another")
    assert files(cache) == sorted([other.file, f"{other.key.name}.json"])


def test_a_sidecar_without_a_plan_is_a_reason_to_rebuild(cache):
    entry = cache.store(KEY, PLAN, "small")
    (cache.folder / entry.file).unlink()
    assert "cannot be read (No such file or directory): rebuild with" in cache.look_up(KEY).reason


def test_a_sidecar_cannot_point_out_of_the_folder(cache):
    cache.store(KEY, PLAN, "small")
    sidecar = cache.folder / f"{KEY.name}.json"
    digest = hashlib.sha256(PLAN).hexdigest()
    sidecar.write_text(sidecar.read_text().replace(digest, "/../" * 16))
    assert "not what the plan cache wrote" in cache.look_up(KEY).reason


@pytest.mark.parametrize("name", ["{key}.json", "{plan}"])
def test_a_link_is_not_followed(cache, tmp_path, name):
    entry = cache.store(KEY, PLAN, "small")
    path = cache.folder / name.format(key=KEY.name, plan=entry.file)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert "cannot be read" in cache.look_up(KEY).reason


def test_a_pipe_in_place_of_a_plan_keeps_nobody_waiting(cache):
    entry = cache.store(KEY, PLAN, "small")
    (cache.folder / entry.file).unlink()
    os.mkfifo(cache.folder / entry.file)
    assert "is not a regular file" in cache.look_up(KEY).reason


def test_files_of_others_stay_and_are_no_plans(cache):
    cache.store(KEY, PLAN, "small")
    for name in ("notes.txt", "settings.json", "my.plan"):
        (cache.folder / name).write_text("{}")
    (cache.folder / "reports").mkdir()
    cache.store(key_of(b"another"), PLAN, "another")
    assert {"notes.txt", "settings.json", "my.plan", "reports"} <= set(files(cache))
    assert {entry.title for entry in cache.entries()} == {"small", "another"}


def test_what_a_killed_writer_left_goes_with_the_next_plan(cache):
    entry = cache.store(KEY, PLAN, "small")
    leftover = cache.folder / f".{entry.file}.partial"
    leftover.write_bytes(PLAN[:10])
    cache.store(KEY, PLAN, "small")
    assert not leftover.exists()


def test_a_plan_that_is_built_again_replaces_the_old_one(cache):
    cache.store(KEY, PLAN, "small")
    entry = cache.store(KEY, b"newer", "small")
    assert cache.look_up(KEY).plan == b"newer"
    assert files(cache) == sorted([entry.file, f"{KEY.name}.json"])


def test_what_was_not_used_for_the_longest_time_goes_first(tmp_path):
    cache = PlanCache(tmp_path, Limits(plans=2))
    keys = [key_of(name) for name in (b"a", b"b", b"c")]
    for age, key in zip((200, 100), keys[:2], strict=True):
        cache.store(key, PLAN, "small")
        os.utime(tmp_path / f"{key.name}.json", (1e9 - age, 1e9 - age))
    assert cache.look_up(keys[0]).plan  # the older one, but used since
    cache.store(keys[2], PLAN, "small")
    assert [cache.look_up(key).plan is not None for key in keys] == [True, False, True]


def test_plans_go_when_all_together_are_too_large_but_never_the_one_just_built(tmp_path):
    cache = PlanCache(tmp_path, Limits(mib=1))
    for name in (b"a", b"b"):
        cache.store(key_of(name), bytes(700_000), "small")
    assert [cache.look_up(key_of(name)).plan is not None for name in (b"a", b"b")] == [False, True]
    cache.store(key_of(b"c"), bytes(2_000_000), "large")
    assert [entry.title for entry in cache.entries()] == ["large"]


@pytest.mark.parametrize("limits", [Limits(plans=2), Limits(plans=1), Limits(mib=1)])
def test_plans_that_fly_together_stay_whatever_the_limits_say(tmp_path, limits, caplog):
    PlanCache(tmp_path).store(key_of(b"of another bundle"), bytes(100_000), "another")
    keys = [key_of(name) for name in (b"iq", b"image", b"fusion")]
    cache = PlanCache(tmp_path, limits, needed=[key.name for key in keys])
    for key in keys:
        cache.store(key, bytes(500_000), "of this one")
    assert all(cache.look_up(key).plan for key in keys)
    assert [entry.title for entry in cache.entries()] == ["of this one"] * 3
    assert f"cache.plans ({limits.plans}) or cache.mib ({limits.mib}) allow: they are kept; raise" in caplog.text


def test_limits_that_are_kept_to_are_not_talked_about(tmp_path, caplog):
    keys = [key_of(name) for name in (b"iq", b"image")]
    cache = PlanCache(tmp_path, Limits(plans=2), needed=[key.name for key in keys])
    for key in keys:
        cache.store(key, PLAN, "small")
    assert caplog.text == ""


def test_a_plan_from_before_there_were_revisions_is_stale_and_explained(cache):
    entry = cache.store(msgspec.structs.replace(KEY, revision=0), PLAN, "small")
    assert "revision" not in (cache.folder / f"{entry.key.name}.json").read_text()  # as it was written then
    (line,) = cache.explain(KEY)
    assert f"revision: expected {BUILDER_REVISION}, found 0 (another release of this project built it" in line


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o702, 0o770, 0o720])
def test_a_folder_that_others_may_write_to_is_refused(cache, mode):
    cache.store(KEY, PLAN, "small")
    cache.folder.chmod(mode)
    with pytest.raises(DeviceError, match=f"nobody else may write to it, found mode {mode:o}; .*chmod go-w"):
        cache.look_up(KEY)
    with pytest.raises(DeviceError, match="executable code"):
        cache.store(KEY, PLAN, "small")


@pytest.mark.parametrize("mode", [0o666, 0o664, 0o602])
def test_a_plan_that_others_may_write_to_is_refused(cache, mode):
    entry = cache.store(KEY, PLAN, "small")
    (cache.folder / entry.file).chmod(mode)
    assert "nobody else may write to it" in cache.look_up(KEY).reason


def test_a_folder_of_another_user_is_refused(cache, monkeypatch):
    cache.store(KEY, PLAN, "small")
    monkeypatch.setattr(os, "geteuid", lambda: cache.folder.stat().st_uid + 1)
    owner = cache.folder.stat()
    foreign = os.stat_result((owner.st_mode, 0, 0, 1, owner.st_uid + 2, *owner[5:10]))
    monkeypatch.setattr(Path, "stat", lambda self, **_: foreign)
    with pytest.raises(DeviceError, match=r"expected to belong to user \d+ or root, found user \d+"):
        cache.look_up(KEY)


def test_a_folder_that_is_closed_to_its_reader_is_not_taken_for_an_empty_one(cache, monkeypatch):
    cache.store(KEY, PLAN, "small")
    monkeypatch.setattr(os, "access", lambda path, mode: path != cache.folder)
    with pytest.raises(
        DeviceError, match=r"expected that user \d+ may read it, found mode 700 of user \d+: run as the"
    ):
        cache.look_up(KEY)


def test_a_folder_within_one_that_is_closed_to_its_reader_is_not_taken_for_absent(cache, monkeypatch):
    def closed(self, **_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "stat", closed)
    with pytest.raises(DeviceError, match="may read it, found it lies in one that is closed to this user: run as"):
        cache.look_up(KEY)


def test_a_new_folder_is_closed_to_others_and_taken_back_whatever_the_umask(cache):
    before = os.umask(0o002)
    try:
        cache.store(KEY, PLAN, "small")
    finally:
        os.umask(before)
    assert stat.S_IMODE(cache.folder.stat().st_mode) == 0o700
    assert cache.look_up(KEY).plan == PLAN


def test_a_file_in_place_of_the_folder_is_named(tmp_path):
    path = tmp_path / "plans"
    path.write_text("")
    with pytest.raises(DeviceError, match="expected a folder of plans, found a file"):
        check_folder(path)


def test_a_folder_that_cannot_be_made_is_an_error_with_a_remedy(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RecordingError, match="name another folder with --plans"):
        PlanCache(tmp_path / "file" / "plans").store(KEY, PLAN, "small")


def store_often(folder, letter):
    for _ in range(20):
        PlanCache(folder).store(KEY, letter * 100_000, "small")


def test_two_processes_that_write_at_once_leave_one_sound_plan(tmp_path):
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=store_often, args=(tmp_path, letter)) for letter in (b"a", b"b")]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert PlanCache(tmp_path).look_up(KEY).plan in (b"a" * 100_000, b"b" * 100_000)
    assert len(files(PlanCache(tmp_path))) == 2
