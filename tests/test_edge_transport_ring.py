"""Shared memory between real processes: nothing torn is ever taken for whole, and no lie does harm."""

import errno
import fcntl
import os
import stat
import struct
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ring_writers import SLOT_BYTES, SLOTS

from edge.transport import ring
from edge.transport.messages import Kind
from edge.transport.ring import MAX_SLOTS, MIN_SLOTS, Loan, RingReader, RingWriter
from edge.transport.wire import FLAG_RING, MAGIC, VERSION, Header, Reason
from models.errors import DeviceError, LinkError

NOTE = struct.Struct("<QQII")
PAGE = 4096
KILLS = 50


@pytest.fixture
def endpoint(tmp_path: Path) -> str:
    return f"ipc://{tmp_path}/s"


@pytest.fixture
def writer(endpoint: str) -> Iterator[RingWriter]:
    made = RingWriter(endpoint, MIN_SLOTS, PAGE)
    yield made
    made.close()


@pytest.fixture
def folder() -> Iterator[Path]:
    """Shared memory that nobody else clears away."""
    with tempfile.TemporaryDirectory(dir=ring.FOLDER) as made:
        yield Path(made)


def header_of(size: int, dtype: int = 1) -> Header:
    """Return the header of a message whose payload has `size` bytes."""
    return Header(MAGIC, VERSION, Kind.IQ, FLAG_RING, 1, dtype, 2, 1, 1, size, 0, 0, size // 2, 2, 0, 1.0, 0, 0.0)


def write(writer: RingWriter, payload: bytes) -> bytes:
    """Write a payload and return its note."""
    slot = writer.reserve(len(payload))
    assert slot is not None
    slot.view[:] = payload
    return writer.commit(slot)


def files_of(endpoint: str) -> list[Path]:
    """Return the rings of an endpoint that are there."""
    return sorted(ring.FOLDER.glob(f"{ring._prefix(endpoint)}*"))


def borrowed(reader: RingReader, note: bytes) -> Loan:
    loan = reader.borrow(header_of(NOTE.unpack(note)[3]), note)
    assert isinstance(loan, Loan)
    return loan


def test_what_is_written_is_read_in_place_and_cannot_be_changed_there(endpoint, writer):
    loan = borrowed(RingReader(endpoint), write(writer, b"payload"))
    assert loan.view.tobytes() == b"payload"
    assert loan.is_intact()
    with pytest.raises(TypeError, match="read-only"):
        loan.view[0] = 1


def test_a_slot_is_lost_to_its_readers_before_it_is_written_again(endpoint, writer):
    reader = RingReader(endpoint)
    notes = [write(writer, bytes([n])) for n in range(MIN_SLOTS)]
    loans = [borrowed(reader, note) for note in notes]
    slot = writer.reserve(1)
    assert [loan.is_intact() for loan in loans] == [False, True, True, True]
    writer.commit(slot)
    assert not borrowed(reader, notes[0]).is_intact()
    assert not loans[0].is_intact()


def test_a_slot_that_was_taken_back_is_used_next_and_nobody_is_told_of_it(endpoint, writer):
    reader = RingReader(endpoint)
    notes = [write(writer, bytes([n])) for n in range(MIN_SLOTS)]
    cancelled = writer.reserve(1)
    writer.cancel(cancelled)
    assert writer.reserve(1).number == cancelled.number
    assert [borrowed(reader, note).is_intact() for note in notes] == [False, True, True, True]


def test_slots_can_be_held_while_others_go_round(endpoint, writer):
    held = writer.reserve(4)
    held.view[:] = b"held"
    reader = RingReader(endpoint)
    for n in range(3 * MIN_SLOTS):
        assert borrowed(reader, write(writer, bytes([n]))).view[0] == n
    assert borrowed(reader, writer.commit(held)).view.tobytes() == b"held"


def test_with_every_slot_held_there_is_none_to_reserve(writer):
    held = [writer.reserve(1) for _ in range(MIN_SLOTS)]
    assert all(held)
    assert writer.reserve(1) is None


def test_several_readers_look_at_the_same_memory(endpoint, writer):
    note = write(writer, b"one for all")
    loans = [borrowed(RingReader(endpoint), note) for _ in range(5)]
    assert {loan.view.tobytes() for loan in loans} == {b"one for all"}


def test_a_reader_follows_a_writer_that_starts_again_and_keeps_what_it_has(endpoint):
    reader = RingReader(endpoint)
    first = RingWriter(endpoint, MIN_SLOTS, PAGE)
    old = borrowed(reader, write(first, b"old"))
    first.close()
    second = RingWriter(endpoint, MIN_SLOTS + 1, 2 * PAGE)
    new = borrowed(reader, write(second, b"new"))
    second.close()
    assert (old.view.tobytes(), old.is_intact(), new.view.tobytes()) == (b"old", True, b"new")


def test_a_ring_is_its_users_alone_and_cannot_be_opened_for_writing(endpoint, writer):
    (path,) = files_of(endpoint)
    found = path.stat()
    assert (stat.S_IMODE(found.st_mode), found.st_uid) == (0o400, os.geteuid())


def test_memory_is_taken_by_messages_and_not_by_the_ring(endpoint):
    writer = RingWriter(endpoint, MIN_SLOTS, 16 << 20)
    (path,) = files_of(endpoint)
    before = path.stat().st_blocks * 512
    write(writer, bytes(10 * PAGE))
    after = path.stat().st_blocks * 512
    size = path.stat().st_size
    writer.close()
    assert (before, after) == (PAGE, 11 * PAGE)
    assert size == PAGE + MIN_SLOTS * (16 << 20)


def test_an_orderly_end_leaves_nothing_behind(endpoint):
    writer = RingWriter(endpoint, MIN_SLOTS, PAGE)
    writer.close()
    assert files_of(endpoint) == []
    assert writer.reserve(1) is None


def test_a_second_writer_is_refused_and_the_first_one_goes_on(endpoint, writer):
    with pytest.raises(LinkError, match="written by another process"):
        RingWriter(endpoint, MIN_SLOTS, PAGE)
    assert len(files_of(endpoint)) == 1
    assert borrowed(RingReader(endpoint), write(writer, b"x")).is_intact()


def test_more_than_is_free_in_memory_is_refused_with_what_to_do(endpoint, monkeypatch):
    free = os.statvfs(ring.FOLDER)
    full = os.statvfs_result((*free[:4], 1000, *free[5:]))
    monkeypatch.setattr(os, "statvfs", lambda _: full)
    with pytest.raises(DeviceError, match=r"does not fit into the \d+ MiB left.*lower shm_slots.*transport: socket"):
        RingWriter(endpoint, MIN_SLOTS, 1000 * free.f_frsize)
    assert files_of(endpoint) == []


def test_without_a_folder_in_memory_the_ring_is_refused(endpoint, tmp_path):
    with pytest.raises(DeviceError, match=r"no shared memory in .*/none \(No such file.*set transport: socket"):
        RingWriter(endpoint, MIN_SLOTS, PAGE, tmp_path / "none")


def test_memory_that_runs_out_in_flight_is_noticed_before_it_is_touched(endpoint, writer, monkeypatch, caplog):
    def refuse(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", refuse)
        assert [writer.reserve(1) for _ in range(3)] == [None, None, None]
    assert [record.message for record in caplog.records] == [
        f"{endpoint}: shared memory is used up (No space left on device): sent by socket"
    ]
    assert borrowed(RingReader(endpoint), write(writer, b"again")).is_intact()


@pytest.mark.parametrize(
    ("slots", "slot_bytes"), [(MIN_SLOTS - 1, 1), (MAX_SLOTS + 1, 1), (MIN_SLOTS, 0), (MIN_SLOTS, (1 << 30) + 1)]
)
def test_an_impossible_ring_is_refused(endpoint, slots, slot_bytes):
    with pytest.raises(ValueError, match=f"{slots} slots of {slot_bytes} bytes"):
        RingWriter(endpoint, slots, slot_bytes)


def test_more_than_a_slot_holds_is_refused(writer):
    with pytest.raises(ValueError, match="4097 bytes for a slot of 4096"):
        writer.reserve(PAGE + 1)


# What a peer may lie about


@pytest.mark.parametrize("lie", range(4), ids=["instance", "generation", "slot", "size"])
@given(value=st.integers(0, 2**32 - 1))
@settings(max_examples=50, deadline=None)
def test_a_note_that_lies_in_one_field_is_refused_or_gives_what_was_written(shared, lie, value):
    reader, note, payload = shared
    fields = list(NOTE.unpack(note))
    fields[lie] = value
    outcome = reader.borrow(header_of(fields[3]), NOTE.pack(*fields))
    if isinstance(outcome, Loan):
        assert outcome.view.tobytes() == payload or not outcome.is_intact()
    else:
        assert outcome in (Reason.NOTE, Reason.RING)


@given(note=st.binary(max_size=48), size=st.integers(0, 2**32 - 1), dtype=st.integers(0, 4))
@settings(max_examples=300, deadline=None)
def test_no_note_raises(shared, note, size, dtype):
    reader, _, _ = shared
    assert reader.borrow(header_of(size, dtype), note) in (Reason.NOTE, Reason.RING)


@pytest.fixture(scope="module")
def shared(tmp_path_factory) -> Iterator[tuple[RingReader, bytes, bytes]]:
    endpoint = f"ipc://{tmp_path_factory.mktemp('ring')}/s"
    writer = RingWriter(endpoint, MIN_SLOTS, PAGE)
    payload = bytes(range(200))
    yield RingReader(endpoint), write(writer, payload), payload
    writer.close()


def test_a_note_must_agree_with_its_header(endpoint, writer):
    note = write(writer, b"four")
    assert RingReader(endpoint).borrow(header_of(5), note) is Reason.NOTE
    assert RingReader(endpoint).borrow(header_of(4, dtype=0), note) is Reason.NOTE


def test_a_note_of_what_was_never_written_is_refused(endpoint, writer):
    instance, generation, slot, size = NOTE.unpack(write(writer, b"four"))
    reader = RingReader(endpoint)
    for fields in ((generation + 2, slot, size), (generation, slot + 1, size), (generation - 1, slot, size)):
        assert reader.borrow(header_of(size), NOTE.pack(instance, *fields)) is Reason.NOTE
    assert reader.borrow(header_of(3), NOTE.pack(instance, generation, slot, 3)) is Reason.NOTE


def test_a_file_that_became_shorter_is_never_looked_into(endpoint, writer):
    reader, note = RingReader(endpoint), write(writer, b"four")
    borrowed(reader, note)
    (path,) = files_of(endpoint)
    path.chmod(0o600)
    os.truncate(path, PAGE)
    assert reader.borrow(header_of(4), note) is Reason.RING
    assert RingReader(endpoint).borrow(header_of(4), note) is Reason.RING


def forge(endpoint: str, folder: Path, content: bytes) -> Path:
    path = ring._path(endpoint, 7, folder)
    path.write_bytes(content)
    path.chmod(0o400)
    return path


CONTROL = struct.Struct("<8sQQQ")
SOUND = CONTROL.pack(ring._MAGIC, 7, 4, PAGE) + bytes(5 * PAGE - CONTROL.size)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"UAVRING",
        bytes(5 * PAGE),
        CONTROL.pack(b"UAVRING\x02", 7, 4, PAGE) + SOUND[CONTROL.size :],
        CONTROL.pack(ring._MAGIC, 8, 4, PAGE) + SOUND[CONTROL.size :],
        CONTROL.pack(ring._MAGIC, 7, 5, PAGE) + SOUND[CONTROL.size :],
        CONTROL.pack(ring._MAGIC, 7, 2**63, 2) + SOUND[CONTROL.size :],
        CONTROL.pack(ring._MAGIC, 7, 0, PAGE) + SOUND[CONTROL.size : PAGE],
        SOUND[:-1],
    ],
    ids=["empty", "short", "zeros", "version", "instance", "slots", "overflow", "none", "one byte less"],
)
def test_a_file_that_is_no_ring_is_refused(endpoint, folder, content):
    forge(endpoint, folder, content)
    assert RingReader(endpoint, folder).borrow(header_of(0), NOTE.pack(7, 0, 0, 0)) is Reason.RING


def test_a_ring_that_others_may_read_is_refused(endpoint, folder):
    path = forge(endpoint, folder, SOUND)
    reader = RingReader(endpoint, folder)
    outcomes = []
    for mode in (0o444, 0o440, 0o400):
        path.chmod(mode)
        outcomes.append(reader.borrow(header_of(0), NOTE.pack(7, 0, 0, 0)))
    assert outcomes[:2] == [Reason.RING, Reason.RING]
    assert isinstance(outcomes[2], Loan)


def test_links_and_pipes_are_not_followed(endpoint, folder):
    path = forge(endpoint, folder, SOUND)
    path.symlink_to(path.rename(folder / "ring"))
    outcomes = [RingReader(endpoint, folder).borrow(header_of(0), NOTE.pack(7, 0, 0, 0))]
    path.unlink()
    os.mkfifo(path, 0o400)
    outcomes.append(RingReader(endpoint, folder).borrow(header_of(0), NOTE.pack(7, 0, 0, 0)))
    assert outcomes == [Reason.RING, Reason.RING]


def test_the_dead_are_cleared_away_and_the_living_are_not(endpoint, folder):
    dead = forge(f"{endpoint}-dead", folder, SOUND)
    living = forge(f"{endpoint}-living", folder, SOUND)
    with living.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        RingWriter(endpoint, MIN_SLOTS, PAGE, folder).close()
        assert (dead.exists(), living.exists()) == (False, True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a file of another user")
def test_files_of_another_user_are_neither_read_nor_minded(endpoint, folder):
    path = forge(endpoint, folder, SOUND)
    os.chown(path, 12_345, -1)
    assert RingReader(endpoint, folder).borrow(header_of(0), NOTE.pack(7, 0, 0, 0)) is Reason.RING
    RingWriter(endpoint, MIN_SLOTS, PAGE, folder).close()
    assert path.exists()


# Two processes


def taken(endpoint: str, rounds: int, messages: int) -> tuple[Counter[str], int]:
    """Run writers and read all that they tell of; return fates of messages, and of how many writers some were read."""
    fates: Counter[str] = Counter()
    instances = set()
    reader = RingReader(endpoint)
    command = [sys.executable, Path(__file__).with_name("ring_writers.py"), endpoint, str(rounds), str(messages)]
    root = Path(__file__).resolve().parents[1]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=root, env={**os.environ, "PYTHONPATH": "."}) as process:
        while note := process.stdout.read(ring.NOTE_BYTES):
            size = NOTE.unpack(note)[3]
            outcome = reader.borrow(header_of(size), note)
            if isinstance(outcome, Reason):  # its writer is dead, and the next one has cleared it away
                fates[outcome] += 1
                continue
            copy = outcome.view.tobytes()
            if not outcome.is_intact():
                fates["overwritten"] += 1
                continue
            fates["whole" if copy == copy[:8] * (size // 8) else "torn"] += 1
            instances.add(NOTE.unpack(note)[0])
    assert process.returncode == 0
    return fates, len(instances)


def test_nothing_torn_is_taken_for_whole_while_a_writer_writes_as_fast_as_it_can(endpoint):
    fates, _ = taken(endpoint, 1, 20_000)
    assert fates["torn"] == 0
    assert fates["whole"] > 0
    assert fates["overwritten"] > 0
    assert fates.total() == 20_000


def test_writers_killed_at_any_moment_leave_nothing_torn_and_little_behind(endpoint):
    fates, read_of = taken(endpoint, KILLS, 1_000_000)
    left = files_of(endpoint)
    RingWriter(endpoint, SLOTS, SLOT_BYTES).close()
    assert fates["torn"] == 0
    assert fates["whole"] > 0
    assert read_of > KILLS // 4
    assert len(left) <= 1
    assert files_of(endpoint) == []
