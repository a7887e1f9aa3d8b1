import errno
import io
import os
import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mavlink_samples as samples
import pytest
import signatures
from hypothesis import given
from hypothesis import strategies as st
from pymavlink import mavutil
from pymavlink.dialects.v20 import common

from edge.mavlink.logs.tlog import read_tlog
from edge.mavlink.network.link import Link
from edge.mavlink.outgoing.aggregation import Aggregation
from edge.mavlink.outgoing.backfill import Backfill
from edge.mavlink.outgoing.spool import Spool, TlogRing, tlog_files
from edge.mavlink.wire import codec, dialect, frames, standard
from edge.mavlink.wire.codec import Flag
from edge.mavlink.wire.frames import without_signature

MS = 1_000_000
S = 1_000 * MS
UTC_US = 1_780_000_000_000_000
FRAMES_DECODED = frames.decoded
PATIENCE_S = 30


def frames_of(*messages: Any, sender: tuple[int, int] = (1, 191)) -> list[bytes]:
    transport = samples.FakeTransport()
    link = Link(transport, *sender)
    for message in messages:
        link.send(message)
    return transport.sent


def result(sequence: int, class_id: int = 1) -> Any:
    answer = samples.answer(sequence=sequence, class_id=class_id)
    return codec.classification_message(
        codec.report_of(answer, model_id=1, now_ns=905_000_000, max_age_ms=300.0, is_replay=False)
    )


def ring(folder: Path, most_bytes: int = 1_000_000, free_bytes: int = 10**12) -> TlogRing:
    return TlogRing(folder, most_bytes, 1_000_000_000, lambda _: free_bytes)


def kept(folder: Path, frames: list[bytes], period_ns: int = 5 * MS) -> Spool:
    spool = Spool(ring(folder), UTC_US, 0)
    for number, frame in enumerate(frames):
        spool.keep(frame, number * period_ns)
    spool.close()
    return spool


def test_what_was_kept_is_read_by_pymavlink_with_its_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = kept(tmp_path / "new" / "spool", frames_of(*(result(n) for n in range(100)), standard.heartbeat(4)))
    (path,) = tlog_files(tmp_path / "new" / "spool")

    data = path.read_bytes()
    at, found = 0, []
    while at < len(data):
        size = data[at + 9] + 12
        found.append((int.from_bytes(data[at : at + 8], "big"), data[at + 8 : at + 8 + size]))
        at += 8 + size
    assert [time_us - UTC_US for time_us, _ in found] == [5_000 * n for n in range(101)]
    assert [samples.decode_frame(frame, 81, 97).sequence for _, frame in found[:100]] == list(range(100))
    assert (spool.written, spool.dropped) == (101, 0)
    monkeypatch.setenv("MAVLINK20", "1")
    read = mavutil.mavlink_connection(str(path), dialect="common")
    counted = 0
    while (message := read.recv_match()) is not None:
        counted += message.get_type() in ("HEARTBEAT", f"UNKNOWN_{dialect.MAVLINK_MSG_ID_FUSION_CLASSIFICATION}")
    read.close()
    assert counted == 101


def test_our_own_import_reads_it(tmp_path: Path) -> None:
    kept(tmp_path, frames_of(*(result(n) for n in range(10))))

    assert read_tlog(tlog_files(tmp_path)[0]).messages == 10


def test_a_signature_is_cut_off_and_the_frame_counts_without(tmp_path: Path) -> None:
    signed = signatures.signed(signatures.heartbeat(), signatures.NOW)
    plain = without_signature(signed)

    assert plain is not None
    assert samples.decode_frame(plain, 50, 9).message_id == 0
    kept(tmp_path, [signed])
    assert signed[-13:] not in tlog_files(tmp_path)[0].read_bytes()


def test_a_frame_without_a_signature_stays_as_it_is() -> None:
    (frame,) = frames_of(result(1))

    assert without_signature(frame) == frame


def test_what_sets_up_keys_is_never_written(tmp_path: Path) -> None:
    secret = list(range(100, 132))
    spool = kept(tmp_path, frames_of(common.MAVLink_setup_signing_message(1, 1, secret, 0), standard.heartbeat(4)))

    assert spool.written == 1
    assert bytes(secret) not in tlog_files(tmp_path)[0].read_bytes()


def test_the_oldest_files_go_and_all_together_never_exceed_the_cap(tmp_path: Path) -> None:
    files, (frame,) = ring(tmp_path, most_bytes=20_000), frames_of(result(1))
    for number in range(2_000):
        assert files.write(UTC_US + number, frame)
        assert files.total_bytes <= 20_000
    files.close()

    on_disk = [path.stat().st_size for path in tlog_files(tmp_path)]
    assert sum(on_disk) == files.total_bytes > 14_000
    assert max(on_disk) <= 5_000
    assert tlog_files(tmp_path)[-1].read_bytes()[-len(frame) - 8 :][:8] == (UTC_US + 1_999).to_bytes(8, "big")


def test_files_of_an_earlier_flight_count_and_go_first(tmp_path: Path) -> None:
    (frame,) = frames_of(result(1))
    before = ring(tmp_path, most_bytes=20_000)
    for number in range(150):
        before.write(UTC_US + number, frame)
    before.close()
    first = tlog_files(tmp_path)[0]
    after = ring(tmp_path, most_bytes=20_000)
    for number in range(100):
        after.write(UTC_US - S + number, frame)  # the clock was set back in between
    after.close()

    assert not first.exists()
    assert sum(path.stat().st_size for path in tlog_files(tmp_path)) <= 20_000
    assert after.total_bytes == sum(path.stat().st_size for path in tlog_files(tmp_path))


def test_other_files_in_the_folder_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.tlog").write_bytes(b"x" * 30_000)
    files, (frame,) = ring(tmp_path, most_bytes=20_000), frames_of(result(1))
    for number in range(400):
        files.write(UTC_US + number, frame)
    files.close()

    assert (tmp_path / "mine.tlog").stat().st_size == 30_000


def test_a_disk_that_is_nearly_full_is_left_alone_and_that_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spool = Spool(ring(tmp_path, free_bytes=999_999_999), UTC_US, 0)
    for frame in frames_of(*(result(n) for n in range(10))):
        spool.keep(frame, 0)
    spool.close()

    assert (spool.written, spool.dropped) == (0, 10)
    assert tlog_files(tmp_path) == []
    assert caplog.text.count("the disk is nearly full") == 1


def test_a_disk_that_fails_costs_what_was_not_written_and_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spool = Spool(ring(tmp_path / "gone"), UTC_US, 0)
    (tmp_path / "gone").rmdir()
    for frame in frames_of(*(result(n) for n in range(10))):
        spool.keep(frame, 0)
    spool.close()

    assert (spool.written, spool.dropped) == (0, 10)
    assert caplog.text.count("spool: not written") == 1


def test_a_disk_that_hangs_does_not_hold_up_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("edge.mavlink.outgoing.spool.END_S", 0.05)
    goes_on, files = threading.Event(), ring(tmp_path)
    monkeypatch.setattr(files, "write", lambda *_: goes_on.wait(PATIENCE_S))
    spool = Spool(files, UTC_US, 0)
    for frame in frames_of(*(result(n) for n in range(10))):
        spool.keep(frame, 0)
    spool.close()
    hangs = spool._writer.is_alive()
    goes_on.set()
    spool._writer.join(PATIENCE_S)

    assert hangs
    assert caplog.text.count("the disk hangs") == 1
    assert spool.written == 10


class FullDisk(io.FileIO):
    """A file for which there is no room: it can be begun, as most often on a full disk."""

    def write(self, data: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Let nothing be written; undo it to make room."""
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", lambda path, mode: io.BufferedWriter(FullDisk(path, mode)))
        yield patch


BUFFERED = 100
"""Frames that are handed over before a disk is asked to take them, at most."""


def test_a_disk_without_room_costs_no_file_of_before_and_gets_no_new_ones(
    tmp_path: Path, full_disk: pytest.MonkeyPatch
) -> None:
    (frame,) = frames_of(result(1))
    (tmp_path / "1.tlog").touch()
    os.truncate(tmp_path / "1.tlog", 20_000)
    files, refused, begun = ring(tmp_path, most_bytes=24_000), 0, []
    for number in range(10_000):  # 50 s
        try:
            files.write(UTC_US + 5_000 * number, frame)
            files.flush()
        except OSError:
            refused += 1
        begun.append(len(tlog_files(tmp_path)))

    assert 40 <= refused <= 60
    assert max(begun) == 1
    assert files.total_bytes == 20_000
    full_disk.undo()
    assert files.write(UTC_US + 60_000_000, frame)
    files.close()
    assert len(past(tmp_path, 0, 10**9)) == 1


def test_what_finds_no_room_on_a_disk_is_counted_and_told_until_there_is_room(
    tmp_path: Path, full_disk: pytest.MonkeyPatch
) -> None:
    spool = Spool(ring(tmp_path), UTC_US, 0)
    for number, frame in enumerate(frames_of(*(result(n) for n in range(1_000)))):
        spool.keep(frame, number * 5 * MS)
    spool.close()

    assert spool.written <= BUFFERED
    assert spool.written + spool.dropped == 1_000
    assert spool.trouble == os.strerror(errno.ENOSPC)


def test_a_folder_that_may_not_be_written_is_refused_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK)

    with pytest.raises(PermissionError, match="Permission denied"):
        ring(tmp_path)


def past(folder: Path, begin_us: int, end_us: int, period_ns: int = 0, sender: tuple[int, int] = (1, 191)) -> list[Any]:
    backfill = Backfill(folder, -1, (UTC_US + begin_us, UTC_US + end_us), sender, Aggregation(period_ns))
    records: list[Any] = []
    while not backfill.is_done:
        batch = backfill.batch(6)
        assert len(batch) <= 6
        records += batch
    return records


def test_a_span_of_the_past_comes_back_record_by_record_marked_as_such(tmp_path: Path) -> None:
    kept(tmp_path, frames_of(*(result(n) for n in range(2_000))))
    records = past(tmp_path, 1_000_000, 2_000_000)

    assert [record.sequence for record in records] == [n % 256 for n in range(200, 400)]
    assert all(Flag.BACKFILL in Flag(record.flags) for record in records)


def test_no_call_looks_at_more_than_a_few_frames_however_long_the_files_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept(tmp_path, frames_of(*(result(n) for n in range(2_000))))
    decoded: list[int] = []
    monkeypatch.setattr(frames, "decoded", lambda frame: decoded.append(1) or FRAMES_DECODED(frame))
    backfill = Backfill(tmp_path, -1, (UTC_US + 8_000_000, UTC_US + 10_000_000), (1, 191), Aggregation(S))
    most = calls = 0
    while not backfill.is_done:
        decoded.clear()
        backfill.batch(6)
        most, calls = max(most, len(decoded)), calls + 1

    assert 0 < most <= 40
    assert 10 <= calls <= 40


def test_a_span_over_several_files_is_whole(tmp_path: Path) -> None:
    files = ring(tmp_path, most_bytes=200_000)
    for number, frame in enumerate(frames_of(*(result(n) for n in range(1_000)))):
        files.write(UTC_US + number * 5_000, frame)
    files.close()

    assert len(tlog_files(tmp_path)) > 2
    assert len(past(tmp_path, 0, 5_000_000)) == 1_000
    assert [record.sequence for record in past(tmp_path, 4_990_000, 9_000_000)] == [998 % 256, 999 % 256]


def test_the_past_is_summed_up_as_it_would_have_been_in_flight(tmp_path: Path) -> None:
    kept(tmp_path, frames_of(*(result(n, class_id=1 if n < 1_000 else 2) for n in range(2_000))))
    records = past(tmp_path, 0, 10_000_000, period_ns=S)

    assert [record.class_id for record in records] == [1] * 5 + [2] * 6
    assert sum(record.count for record in records) <= 2_000


def test_a_board_whose_clock_starts_anew_each_time_finds_its_own_past_and_no_other_flights(tmp_path: Path) -> None:
    for first, utc_us in ((0, UTC_US), (1_000, 0), (2_000, 0)):
        files = ring(tmp_path)
        for number, frame in enumerate(frames_of(*(result(first + n) for n in range(100)))):
            files.write(utc_us + number * 5_000, frame)
        files.close()
    backfill = Backfill(tmp_path, files.before, (100_000, 200_000), (1, 191), Aggregation(0))
    records = [record for _ in range(10) for record in backfill.batch(6)]

    assert [record.sequence for record in records] == [n % 256 for n in range(2_020, 2_040)]


def test_only_our_own_answers_come_back(tmp_path: Path) -> None:
    ours, others = frames_of(result(1), standard.heartbeat(4)), frames_of(result(2), sender=(2, 191))
    kept(tmp_path, ours + others)

    assert [record.sequence for record in past(tmp_path, 0, S)] == [1]


@pytest.mark.parametrize("folder", ["empty", "absent"])
def test_without_a_memory_the_past_is_empty(tmp_path: Path, folder: str) -> None:
    (tmp_path / "empty").mkdir()

    assert past(tmp_path / folder, 0, S) == []


@given(st.integers(0, 2**32), st.integers(0, 3_000))
def test_damaged_files_end_where_the_damage_begins(
    tmp_path_factory: pytest.TempPathFactory, seed: int, at: int
) -> None:
    folder = tmp_path_factory.mktemp("spool")
    frames = frames_of(*(result(n) for n in range(30)))
    data = b"".join((UTC_US + n).to_bytes(8, "big") + frame for n, frame in enumerate(frames))
    noise = random.Random(seed).randbytes(200)
    (folder / f"{UTC_US}.tlog").write_bytes((data[:at] + noise)[: len(data)])

    records = past(folder, 0, S)
    whole = at // (len(frames[0]) + 8)
    assert [record.sequence for record in records][:whole] == list(range(min(whole, 30)))


def test_a_file_that_is_being_written_gives_what_is_whole(tmp_path: Path) -> None:
    frames = frames_of(*(result(n) for n in range(3)))
    data = b"".join((UTC_US + n).to_bytes(8, "big") + frame for n, frame in enumerate(frames))
    (tmp_path / f"{UTC_US}.tlog").write_bytes(data[:-1])

    assert [record.sequence for record in past(tmp_path, 0, S)] == [0, 1]
