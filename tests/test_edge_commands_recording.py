"""`uav-edge recording check, repair, cut, merge`: what comes out, what is said, and with which exit code."""

import errno
import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
from mcap.reader import make_reader
from recorded import PERIOD_NS, START_NS, UTC_OFFSET_NS, chunks_of, iq_message, write_flight

from edge.cli import main
from edge.recording.chunk_reader import MAGIC
from edge.recording.reader import Event, open_recording
from edge.recording.writer import RecordingWriter
from edge.transport.messages import Classification, Kind, ModalityAnswer, PipelineStatus, Pose, Truth
from edge.transport.wire import Stamp, encode_bytes

WINDOWS = 60
POSE = Pose(capture_ns=START_NS, latitude_deg=1.0, longitude_deg=2.0, altitude_m=3.0)
ANSWER = Classification(
    sequence=0, capture_ns=START_NS, answer_ns=START_NS + 1, class_id=0, label="a", confidence=1.0, probs=(1.0,),
    modalities=(
        ModalityAnswer(name="iq", mask=1.0, capture_ns=START_NS),
        ModalityAnswer(name="image", mask=0.0, reason="silent"),
    ),
    pose=POSE,
)  # fmt: skip
STATUS = PipelineStatus(time_ns=START_NS, results=1, streams={}, model="m", bundle_sha256="", labels=("a",))


@pytest.fixture
def flight(tmp_path: Path) -> Path:
    path = tmp_path / "flight.mcap"
    write_flight(path, WINDOWS)
    return path


def _break_chunk(path: Path, number: int) -> int:
    """Flip a bit in a chunk; return how many messages that costs."""
    data = bytearray(path.read_bytes())
    start, end, count = chunks_of(bytes(data))[number]
    data[(start + end) // 2] ^= 1
    path.write_bytes(data)
    return count


def _numbers(path: Path) -> list[int]:
    return [event.header.sequence for event in open_recording(path).events(["radio"]) if event.header]


def _json(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return told


def test_sound_recording_is_sound(flight: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recording", "check", str(flight), "--json"]) == 0
    (verdict,) = _json(capsys)["recordings"]
    assert (verdict["verdict"], verdict["messages"], verdict["notes"]) == ("sound", {"radio": WINDOWS}, [])


def test_damaged_recording_is_told_where(flight: Path, capsys: pytest.CaptureFixture[str]) -> None:
    count = _break_chunk(flight, 1)
    assert main(["recording", "check", str(flight), "--json"]) == 1
    out = capsys.readouterr().out
    (verdict,) = json.loads(out.splitlines()[-1])["recordings"]
    (gap,) = verdict["damage"]["gaps"]
    assert gap["lost_messages_at_least"] == {"radio": count}
    assert (gap["from_s"], gap["to_s"]) == ((count - 1) * PERIOD_NS / 1e9, 2 * count * PERIOD_NS / 1e9)
    assert f"lost from {gap['from_s']:.3f} s to {gap['to_s']:.3f} s" in out


def test_worst_of_several_recordings_decides(tmp_path: Path, flight: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = tmp_path / "broken.mcap"
    broken.write_bytes(flight.read_bytes()[:-100])
    nothing = tmp_path / "nothing.mcap"
    nothing.write_bytes(b"nothing")
    assert main(["recording", "check", str(flight), str(broken)]) == 1
    assert main(["recording", "check", str(nothing), str(broken), str(flight), "--json"]) == 6
    verdicts = [verdict["verdict"] for verdict in _json(capsys)["recordings"]]
    assert verdicts == ["unreadable", "damaged", "sound"]


def test_every_byte_of_a_small_recording_is_vouched_for(tmp_path: Path) -> None:
    path = tmp_path / "small.mcap"
    with RecordingWriter(path, metadata={"pilot": "me"}) as writer:
        writer.attach("flight.yaml", "application/yaml", b"x")
        writer.write_message(POSE, START_NS)
    data = path.read_bytes()
    unnoticed = []
    for place in range(0, len(data), 7):
        path.write_bytes(data[:place] + bytes([data[place] ^ 0x10]) + data[place + 1 :])
        if main(["--quiet", "recording", "check", str(path)]) == 0:
            unnoticed.append(place)
    assert unnoticed == []


@pytest.mark.parametrize("tail", [b"x", MAGIC, bytes(100)], ids=["byte", "magic", "zeros"])
def test_what_is_added_behind_the_end_is_noticed(flight: Path, tail: bytes) -> None:
    flight.write_bytes(flight.read_bytes() + tail)
    assert main(["recording", "check", str(flight)]) == 1


def test_recording_without_a_checksum_over_all_is_sound_with_a_note(
    tmp_path: Path, flight: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = flight.read_bytes()
    at = data.rindex(b"\x0f\x04\0\0\0\0\0\0\0")
    flight.write_bytes(data[: at + 9] + bytes(4) + data[at + 13 :])
    assert main(["recording", "check", str(flight)]) == 0
    assert "no checksum covers the whole file" in capsys.readouterr().out


def test_time_that_goes_back_is_noted_and_no_damage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with RecordingWriter(tmp_path / "back.mcap") as writer:
        for step in (0, 2, 1):
            writer.write_sensor("radio", *iq_message(step, START_NS), START_NS + step)
    assert main(["recording", "check", str(tmp_path / "back.mcap")]) == 0
    assert "time of radio goes back 1 times" in capsys.readouterr().out


def test_repair_saves_what_can_be_read_with_an_index(
    tmp_path: Path, flight: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    count = _break_chunk(flight, 0)
    flight.write_bytes(flight.read_bytes()[:-30_000])
    out = tmp_path / "repaired.mcap"
    expected = _numbers(flight)
    assert main(["recording", "repair", str(flight), str(out), "--json"]) == 0
    told = _json(capsys)
    assert told["messages"] == {"radio": len(expected)}
    assert told["damage"][str(flight)]["lost_messages_at_least"] == count
    with out.open("rb") as file:
        summary = make_reader(file, validate_crcs=True).get_summary()
    assert summary is not None
    assert summary.statistics is not None
    assert summary.statistics.message_count == len(expected)
    assert _numbers(out) == expected
    assert "recorder killed" in open_recording(out).metadata["repaired"]
    assert main(["recording", "check", str(out)]) == 0


def test_repair_of_a_sound_recording_changes_no_message(tmp_path: Path) -> None:
    with RecordingWriter(tmp_path / "all.mcap", metadata={"pilot": "me"}, utc_offset_ns=UTC_OFFSET_NS) as writer:
        writer.attach("flight.yaml", "application/yaml", b"bundle: x")
        header_bytes, payload = encode_bytes(Kind.ENCODED_FRAME, Stamp(1, 2, 3, START_NS, START_NS), b"\xff\xd8jpeg")
        writer.write_parts("camera", (header_bytes, payload), START_NS)
        for message in (ANSWER, STATUS, POSE, Truth(capture_ns=1, class_id=0, label="a")):
            writer.write_message(message, START_NS)
    assert main(["recording", "repair", str(tmp_path / "all.mcap"), str(tmp_path / "out.mcap")]) == 0
    before, after = (open_recording(tmp_path / name) for name in ("all.mcap", "out.mcap"))
    assert list(before.events()) == list(after.events())
    assert after.metadata == before.metadata
    assert after.attachments == before.attachments


def test_cut_takes_a_part_by_time_and_topic(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with RecordingWriter(tmp_path / "flight.mcap", utc_offset_ns=UTC_OFFSET_NS) as writer:
        for step in range(10):
            writer.write_sensor("radio", *iq_message(step, START_NS), START_NS + step * 1_000_000_000)
            writer.write_message(POSE, START_NS + step * 1_000_000_000)
    out = tmp_path / "part.mcap"
    options = ["--from", "2", "--to", "4.5", "--topics", "radio", "--json"]
    assert main(["recording", "cut", str(tmp_path / "flight.mcap"), str(out), *options]) == 0
    assert _json(capsys)["messages"] == {"radio": 3}
    part = open_recording(out)
    assert _numbers(out) == [2, 3, 4]
    assert (part.start_ns, list(part.streams)) == (START_NS + 2_000_000_000, ["radio"])


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--from", "100"], "nothing in this part: it lasts 0.590 s"),
        (["--topics", "sonar"], "no stream sonar: there is radio"),
    ],
)
def test_cut_of_nothing_is_refused(
    tmp_path: Path, flight: Path, capsys: pytest.CaptureFixture[str], options: list[str], complaint: str
) -> None:
    assert main(["recording", "cut", str(flight), str(tmp_path / "out.mcap"), *options]) == 2
    assert complaint in capsys.readouterr().err
    assert not (tmp_path / "out.mcap").exists()


@pytest.mark.parametrize("text", ["x", "1e99", "nan"])
def test_time_that_is_none_is_refused(tmp_path: Path, flight: Path, text: str) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["recording", "cut", str(flight), str(tmp_path / "out.mcap"), "--from", text])
    assert stopped.value.code == 2


def test_cut_of_a_damaged_recording_says_so_in_its_exit_code(tmp_path: Path, flight: Path) -> None:
    count = _break_chunk(flight, 0)
    assert main(["recording", "cut", str(flight), str(tmp_path / "out.mcap"), "--to", "0.3"]) == 1
    assert _numbers(tmp_path / "out.mcap")[0] == count


def _part(path: Path, first: int, offset_ns: int = UTC_OFFSET_NS, stream: str = "radio") -> None:
    """Write ten windows a second apart, on a clock that is so far from UTC."""
    with RecordingWriter(path, metadata={"name": path.stem}, utc_offset_ns=offset_ns) as writer:
        writer.attach("name.txt", "text/plain", path.stem.encode())
        for step in range(first, first + 10):
            at_ns = START_NS + step * 1_000_000_000 + UTC_OFFSET_NS - offset_ns
            writer.write_sensor(stream, *iq_message(step, at_ns), at_ns)


def test_parts_of_a_flight_become_one(tmp_path: Path) -> None:
    for name, first in (("a", 0), ("b", 10), ("c", 20)):
        _part(tmp_path / f"{name}.mcap", first)
    inputs = [str(tmp_path / f"{name}.mcap") for name in "cab"]
    assert main(["recording", "merge", str(tmp_path / "out.mcap"), *inputs]) == 0
    merged = open_recording(tmp_path / "out.mcap")
    assert _numbers(tmp_path / "out.mcap") == list(range(30))
    assert merged.streams["radio"].missing == 0
    assert merged.metadata["name"] == "c; a; b"
    assert set(merged.attachments.values()) == {b"a", b"b", b"c"}


def _moments(events: list[Event]) -> list[tuple[int, int]]:
    return [(event.log_ns, event.header.capture_ns) for event in events if event.header]


def test_recordings_on_different_clocks_come_onto_that_of_the_first(tmp_path: Path) -> None:
    _part(tmp_path / "a.mcap", 0)
    _part(tmp_path / "b.mcap", 10, UTC_OFFSET_NS + 7_000_000_000)
    inputs = [str(tmp_path / "a.mcap"), str(tmp_path / "b.mcap")]
    assert main(["recording", "merge", str(tmp_path / "out.mcap"), *inputs]) == 0
    times = [START_NS + step * 1_000_000_000 for step in range(20)]
    assert _moments(list(open_recording(tmp_path / "out.mcap").events())) == [(at_ns, at_ns) for at_ns in times]


def test_clock_offset_moves_every_time_in_a_recording(tmp_path: Path) -> None:
    _part(tmp_path / "a.mcap", 0)
    pose = Pose(capture_ns=START_NS, latitude_deg=1.0, longitude_deg=2.0, altitude_m=3.0)
    with RecordingWriter(tmp_path / "b.mcap", utc_offset_ns=UTC_OFFSET_NS) as writer:
        header_bytes, payload = encode_bytes(Kind.ENCODED_FRAME, Stamp(1, 2, 3, START_NS, START_NS), b"\xff\xd8jpeg")
        writer.write_parts("camera", (header_bytes, payload), START_NS)
        for message in (ANSWER, STATUS, pose, Truth(capture_ns=START_NS, class_id=0, label="a")):
            writer.write_message(message, START_NS)
    command = ["recording", "merge", str(tmp_path / "out.mcap"), str(tmp_path / "a.mcap"), str(tmp_path / "b.mcap")]
    assert main([*command, "--clock-offset", "b=2.5"]) == 0
    moved = START_NS + 2_500_000_000
    merged = open_recording(tmp_path / "out.mcap")
    events = {event.stream: event for event in merged.events() if event.stream != "radio"}
    assert {event.log_ns for event in events.values()} == {moved}
    camera = events["camera"].header
    assert camera is not None
    assert (camera.capture_ns, camera.send_ns, events["camera"].payload) == (moved, moved, b"\xff\xd8jpeg")
    answer = events["classification"].message
    assert isinstance(answer, Classification)
    assert (answer.capture_ns, answer.answer_ns) == (moved, moved + 1)
    assert [modality.capture_ns for modality in answer.modalities] == [moved, 0]
    assert answer.pose is not None
    assert answer.pose.capture_ns == moved
    assert getattr(events["status"].message, "time_ns", 0) == moved
    assert all(getattr(events[name].message, "capture_ns", 0) == moved for name in ("pose", "truth"))
    with (tmp_path / "out.mcap").open("rb") as file:
        fix = next(json.loads(message.data) for _, _, message in make_reader(file).iter_messages(["/pose"]))
    assert fix["timestamp"] == {"sec": (moved + UTC_OFFSET_NS) // 10**9, "nsec": (moved + UTC_OFFSET_NS) % 10**9}


def test_the_same_stream_at_the_same_time_is_not_merged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _part(tmp_path / "a.mcap", 0)
    _part(tmp_path / "b.mcap", 5)
    inputs = [str(tmp_path / "a.mcap"), str(tmp_path / "b.mcap")]
    assert main(["recording", "merge", str(tmp_path / "out.mcap"), *inputs]) == 2
    assert "at the same time" in capsys.readouterr().err
    assert main(["recording", "merge", str(tmp_path / "out.mcap"), *inputs, "--clock-offset", "b=5"]) == 0


def test_different_streams_at_the_same_time_are_merged(tmp_path: Path) -> None:
    _part(tmp_path / "a.mcap", 0)
    _part(tmp_path / "b.mcap", 0, stream="second")
    inputs = [str(tmp_path / "a.mcap"), str(tmp_path / "b.mcap")]
    assert main(["recording", "merge", str(tmp_path / "out.mcap"), *inputs]) == 0
    assert {name: s.count for name, s in open_recording(tmp_path / "out.mcap").streams.items()} == {
        "radio": 10,
        "second": 10,
    }


@pytest.mark.parametrize("text", ["b", "x=1", "a=", "a=soon"])
def test_clock_offset_of_nothing_is_refused(tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    _part(tmp_path / "a.mcap", 0)
    command = ["recording", "merge", str(tmp_path / "out.mcap"), str(tmp_path / "a.mcap"), "--clock-offset", text]
    assert main(command) == 2
    assert "--clock-offset" in capsys.readouterr().err


def _fill_disk_after(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """Let the disk be full once a file has this size."""
    write = os.write

    def limited(file: int, data: memoryview) -> int:
        room = size - os.fstat(file).st_size
        if room <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(file, data[:room])

    monkeypatch.setattr("edge.recording.chunk_writer.os.write", limited)


def test_a_disk_that_fills_keeps_what_could_be_saved_under_another_name(
    tmp_path: Path, flight: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.mcap"
    out.write_bytes(b"what was there before")
    with monkeypatch.context() as full:
        _fill_disk_after(full, 2_500_000)
        assert main(["recording", "repair", str(flight), str(out)]) == 6
    error = capsys.readouterr().err
    assert "No space left on device" in error
    assert f"what was saved is in {out}.part" in error
    assert out.read_bytes() == b"what was there before"
    assert _numbers(tmp_path / "out.mcap.part") == list(range(32))


def test_a_place_that_cannot_be_written_is_refused(
    tmp_path: Path, flight: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["recording", "repair", str(flight), str(tmp_path / "absent" / "out.mcap")]) == 6
    assert "absent" in capsys.readouterr().err


def test_recording_is_repaired_in_its_place(flight: Path) -> None:
    _break_chunk(flight, 0)
    expected = _numbers(flight)
    assert main(["recording", "repair", str(flight), str(flight)]) == 0
    assert _numbers(flight) == expected
    assert not open_recording(flight).damage.is_damaged
    assert make_reader(io.BytesIO(flight.read_bytes())).get_summary() is not None
