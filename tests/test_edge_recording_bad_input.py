"""Files that lie, lack or contradict: each command says so in a line and an exit code, and saves what can be saved."""

import io
import random
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from mcap.reader import make_reader
from mcap.writer import Writer
from recorded import START_NS, chunks_of, iq_message, with_chunk, write_flight

from edge.cli import main
from edge.recording.chunk_reader import MAGIC, MAX_CHUNK_BYTES
from edge.recording.reader import open_recording
from edge.recording.writer import RecordingWriter
from models.bundle import shipped_bundle

WINDOWS = 40
OURS = {"format": "1", "utc_offset_ns": "0", "kind": "IQ", "stream": "radio"}
UNREADABLE, WITHOUT_SENSE, DAMAGED, SOUND = 6, 2, 1, 0


@pytest.fixture(scope="module")
def flight(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("flight") / "flight.mcap"
    write_flight(path, WINDOWS)
    return path.read_bytes()


def _with_length(flight: bytes, at: int, length: int) -> bytes:
    """Return a file with another length in the record that begins at a place."""
    return flight[: at + 1] + struct.pack("<Q", length) + flight[at + 9 :]


def _foreign(channels: dict[str, tuple[str, dict[str, str]]], *, is_indexed: bool = True) -> bytes:
    """Return a file of another program: topics with schema and metadata, a message each."""
    file = io.BytesIO()
    writer = Writer(file, use_summary_offsets=is_indexed, repeat_schemas=is_indexed)
    writer.start()
    for topic, (schema, metadata) in channels.items():
        channel = writer.register_channel(topic, "raw", writer.register_schema(schema, "", b""), metadata)
        _, header_bytes, payload = iq_message(0, START_NS)
        writer.add_message(channel, log_time=START_NS, data=header_bytes + payload, publish_time=0, sequence=0)
    writer.finish()
    return file.getvalue()


def _summary_start(flight: bytes) -> int:
    return int(struct.unpack("<Q", flight[-28:-20])[0])


BAD_FILES: dict[str, tuple[Callable[[bytes], bytes], int]] = {
    "a chunk longer than the file": (lambda f: _with_length(f, chunks_of(f)[1][0], 1 << 40), DAMAGED),
    "a chunk that ends in the next": (lambda f: _with_length(f, chunks_of(f)[1][0], 2_000_000), DAMAGED),
    "a first record longer than the file": (lambda f: _with_length(f, len(MAGIC), (1 << 64) - 1), DAMAGED),
    "a bomb": (lambda f: with_chunk("zstd", zstandard.compress(bytes(MAX_CHUNK_BYTES + 1)), 1000), UNREADABLE),
    "no index": (lambda f: f[: _summary_start(f)], DAMAGED),
    "an index cut in two": (lambda f: f[:-100], DAMAGED),
    "half a file": (lambda f: f[: len(f) // 2], DAMAGED),
    "its second half": (lambda f: f[len(f) // 2 :], UNREADABLE),
    "eight bytes": (lambda f: MAGIC, UNREADABLE),
    "nothing": (lambda f: b"", UNREADABLE),
    "zeros": (lambda f: bytes(100_000), UNREADABLE),
    "other schemas alone": (lambda f: _foreign({"/tf": ("tf2_msgs/TFMessage", {})}), UNREADABLE),
    "other schemas beside ours": (lambda f: _foreign({"/iq/radio": ("uav.Iq", OURS), "/tf": ("tf2", {})}), SOUND),
    "a newer format": (lambda f: _foreign({"/iq/radio": ("uav.Iq", {**OURS, "format": "99"})}), UNREADABLE),
    "a format that is no number": (lambda f: _foreign({"/a": ("uav.Iq", {**OURS, "format": "new"})}), UNREADABLE),
    "a clock beyond all time": (
        lambda f: _foreign({"/a": ("uav.Iq", {**OURS, "utc_offset_ns": "9" * 30})}),
        UNREADABLE,
    ),
    "a clock that is no number": (lambda f: _foreign({"/a": ("uav.Iq", {**OURS, "utc_offset_ns": "now"})}), UNREADABLE),
    "every of nothing": (lambda f: _foreign({"/a": ("uav.Iq", {**OURS, "every": "x"})}), UNREADABLE),
    "every of nought": (lambda f: _foreign({"/a": ("uav.Iq", {**OURS, "every": "0"})}), SOUND),
    "a file of its own beside it": (lambda f: f + f, DAMAGED),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_every_command_meets_a_bad_file_with_a_line_and_an_exit_code(
    tmp_path: Path, flight: bytes, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    make, expected = BAD_FILES[name]
    bad, out = tmp_path / "bad.mcap", tmp_path / "out"
    bad.write_bytes(make(flight))
    assert main(["recording", "check", str(bad)]) == expected
    commands = {
        "info": ["recording", "info", str(bad)],
        "repair": ["recording", "repair", str(bad), f"{out}.mcap"],
        "cut": ["recording", "cut", str(bad), f"{out}-cut.mcap", "--to", "10"],
        "merge": ["recording", "merge", f"{out}-merged.mcap", str(bad)],
        "export": ["recording", "export", str(bad), str(out)],
    }
    capsys.readouterr()
    for command, arguments in commands.items():
        code = main(["--quiet", *arguments])
        error = capsys.readouterr().err
        assert code in (SOUND, DAMAGED, UNREADABLE), command
        assert (code == UNREADABLE) == (expected == UNREADABLE), command
        assert ("uav-edge: " in error) == (code == UNREADABLE), command
        assert "Traceback" not in error
    for arguments in (["judge", str(bad)], ["replay", str(bad), "--bundle", str(shipped_bundle()), "--exact"]):
        code = main(["--quiet", *arguments])
        error = capsys.readouterr().err
        assert code in (SOUND, WITHOUT_SENSE, UNREADABLE), arguments[0]
        assert ("uav-edge: " in error) == (code != SOUND), arguments[0]
        assert "Traceback" not in error
    if expected != UNREADABLE:
        assert open_recording(out.with_suffix(".mcap")).event_count == open_recording(bad).event_count
        assert main(["recording", "check", f"{out}.mcap"]) == SOUND


def test_a_recording_of_empty_channels_alone_is_sound_and_holds_nothing(tmp_path: Path) -> None:
    with RecordingWriter(tmp_path / "empty.mcap"):
        pass
    assert main(["recording", "check", str(tmp_path / "empty.mcap")]) == SOUND
    assert main(["recording", "info", str(tmp_path / "empty.mcap")]) == SOUND
    assert main(["recording", "repair", str(tmp_path / "empty.mcap"), str(tmp_path / "out.mcap")]) == SOUND
    assert main(["recording", "export", str(tmp_path / "empty.mcap"), str(tmp_path / "out")]) == SOUND
    assert list((tmp_path / "out").iterdir()) == []


def test_time_that_goes_backwards_is_put_in_order_by_repair(tmp_path: Path) -> None:
    with RecordingWriter(tmp_path / "back.mcap") as writer:
        for sequence, step in enumerate((5, 3, 4, 0)):
            writer.write_sensor("radio", *iq_message(sequence, START_NS), START_NS + step)
    assert main(["recording", "repair", str(tmp_path / "back.mcap"), str(tmp_path / "out.mcap")]) == SOUND
    repaired = open_recording(tmp_path / "out.mcap")
    assert repaired.steps_back() == {}
    assert [event.header.sequence for event in repaired.events() if event.header] == [3, 1, 2, 0]


def test_what_a_file_says_of_itself_does_no_harm_to_a_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.mcap").write_bytes(_foreign({"/\x1b[2J\n" + "x" * 1000: ("\x1b]0;y\x07", {})}))
    assert main(["recording", "check", str(tmp_path / "bad.mcap")]) == UNREADABLE
    error = capsys.readouterr().err
    assert "\x1b" not in error
    assert error.count("\n") == 1
    assert len(error) < 500


def _foreign_times(path: Path) -> list[int]:
    with path.open("rb") as file:
        return [message.log_time for _, _, message in make_reader(file).iter_messages()]


def test_times_at_the_end_of_all_time_can_be_cut(tmp_path: Path) -> None:
    with (tmp_path / "late.mcap").open("wb") as file:
        writer = Writer(file)
        writer.start()
        channel = writer.register_channel("/iq/radio", "raw", writer.register_schema("uav.Iq", "", b""), OURS)
        _, header_bytes, payload = iq_message(0, START_NS)
        writer.add_message(channel, log_time=(1 << 64) - 2, data=header_bytes + payload, publish_time=0, sequence=0)
        writer.finish()
    command = ["recording", "cut", str(tmp_path / "late.mcap"), str(tmp_path / "out.mcap")]
    assert main([*command, "--from", "0", "--to", "3e8"]) == SOUND
    assert _foreign_times(tmp_path / "out.mcap") == [(1 << 63) - 1]  # the latest that is written


@pytest.mark.parametrize("seed", range(12))
def test_no_garbage_brings_a_command_down(tmp_path: Path, flight: bytes, seed: int) -> None:
    chance = random.Random(seed)
    data = bytearray(flight[: chunks_of(flight)[1][1] + 500])
    for _ in range(chance.randrange(1, 30)):
        at = chance.randrange(8, len(data))
        data[at : at + chance.randrange(1, 40)] = chance.randbytes(chance.randrange(0, 40))
    bad = tmp_path / "bad.mcap"
    bad.write_bytes(data)
    for number, arguments in enumerate((["check"], ["info"], ["repair", "a.mcap"], ["export", "b"])):
        command, *out = arguments
        targets = [str(tmp_path / f"{number}{name}") for name in out]
        assert main(["--quiet", "recording", command, str(bad), *targets]) in (SOUND, DAMAGED, UNREADABLE)
