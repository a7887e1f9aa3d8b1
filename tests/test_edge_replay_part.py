"""Which part of a recording is flown, and under which names."""

import json
from pathlib import Path

import pytest
from recorded import PERIOD_NS, START_NS, UTC_OFFSET_NS, iq_message

from edge.cli import main
from edge.recording.imports.utc import utc_text
from edge.recording.reader import Recording, open_recording
from edge.recording.writer import RecordingWriter
from edge.transport.messages import Pose
from models.bundle import shipped_bundle
from models.errors import ConfigError

WINDOWS = 20


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    """Return 20 windows 10 ms apart, and a pose at the tenth."""
    path = tmp_path_factory.mktemp("flight") / "flight.mcap"
    with RecordingWriter(path, utc_offset_ns=UTC_OFFSET_NS) as writer:
        for n in range(WINDOWS):
            writer.write_sensor("radio", *iq_message(n, START_NS + n * PERIOD_NS), START_NS + n * PERIOD_NS)
        pose = Pose(capture_ns=START_NS, latitude_deg=1.0, longitude_deg=2.0, altitude_m=3.0)
        writer.write_message(pose, START_NS + 10 * PERIOD_NS)
    return open_recording(path)


def _sequences(recording: Recording) -> list[int]:
    return [event.header.sequence for event in recording.events() if event.header]


def test_a_part_is_a_recording_of_what_came_in_it(recording: Recording) -> None:
    part = recording.part(START_NS + 5 * PERIOD_NS, START_NS + 9 * PERIOD_NS)
    assert _sequences(part) == [5, 6, 7, 8]
    assert (part.event_count, part.start_ns, part.duration_ns) == (4, START_NS + 5 * PERIOD_NS, 3 * PERIOD_NS)
    assert set(part.streams) == {"radio"}
    assert part.streams["radio"].count == 4
    assert _sequences(recording) == list(range(WINDOWS))


def test_a_part_without_an_end_or_a_beginning_has_that_of_the_whole(recording: Recording) -> None:
    middle_ns = START_NS + 10 * PERIOD_NS
    assert _sequences(recording.part(middle_ns, None)) == list(range(10, WINDOWS))
    assert _sequences(recording.part(None, middle_ns)) == list(range(10))


def test_a_part_in_which_nothing_came_is_refused_with_the_length_of_the_flight(recording: Recording) -> None:
    with pytest.raises(ConfigError, match=r"nothing in this part: it lasts 0\.190 s"):
        recording.part(START_NS + 10**9, None)


def test_a_renamed_stream_brings_the_same_messages(recording: Recording) -> None:
    renamed = recording.renamed({"radio": "front"})
    assert set(renamed.streams) == {"front", "pose"}
    assert [event.stream for event in renamed.part(None, START_NS + 2 * PERIOD_NS).events()] == ["front", "front"]
    assert set(recording.streams) == {"radio", "pose"}


@pytest.mark.parametrize(
    ("names", "text"),
    [
        ({"lidar": "radio"}, "no stream lidar: it has radio$"),
        ({"pose": "place"}, "no stream pose: it has radio$"),
        ({"radio": "pose"}, "stream 'pose': expected 1 to 64 letters"),
        ({"radio": "../radio"}, "expected 1 to 64 letters"),
    ],
)
def test_names_that_cannot_be_are_refused(recording: Recording, names: dict[str, str], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        recording.renamed(names)


def test_streams_can_change_names_but_not_share_one(tmp_path: Path) -> None:
    with RecordingWriter(tmp_path / "flight.mcap") as writer:
        for n, stream in enumerate(("left", "right")):
            writer.write_sensor(stream, *iq_message(n, START_NS), START_NS + n)
    recording = open_recording(tmp_path / "flight.mcap")
    swapped = recording.renamed({"left": "right", "right": "left"})
    assert [event.stream for event in swapped.events()] == ["right", "left"]
    with pytest.raises(ConfigError, match="two streams would be called right: rename the other one as well"):
        recording.renamed({"left": "right"})


def _replay(recording: Recording, *arguments: str) -> int:
    return main(["replay", str(recording.path), "--bundle", str(shipped_bundle()), "--exact", *arguments])


def test_exact_replay_flies_a_part_by_seconds_or_by_utc(recording: Recording, capsys: pytest.CaptureFixture) -> None:
    utc = [utc_text(START_NS + UTC_OFFSET_NS + n * PERIOD_NS) for n in (5, 9)]
    told = []
    for begin, end in (("0.05", "0.09"), utc):
        assert _replay(recording, "--from", begin, "--to", end, "--remap", "radio=front", "--json") == 0
        told.append(json.loads(capsys.readouterr().out.splitlines()[-1]))
    assert {name: stream["received"] for name, stream in told[0]["accounting"].items()} == {"front": 4}
    assert told[0]["results_sha256"] == told[1]["results_sha256"]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--from", "0.1", "--to", "0.05"), "expected --from before --to"),
        (("--from", "5"), "nothing in this part"),
        (("--remap", "lidar=camera"), "no stream lidar: it has radio"),
        (("--remap", "radio=a", "--remap", "radio=b"), "expected each stream once"),
    ],
)
def test_parts_and_names_that_make_no_sense_end_with_exit_code_2(
    recording: Recording, capsys: pytest.CaptureFixture, arguments: tuple[str, ...], text: str
) -> None:
    assert _replay(recording, *arguments) == 2
    assert text in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--from", "yesterday"), "expected seconds from the start, such as 12.5, or UTC"),
        (("--to", "-3"), "expected"),
        (("--to", "nan"), "expected seconds"),
        (("--remap", "radio"), "expected OLD=NEW"),
        (("--remap", "=x"), "expected OLD=NEW"),
    ],
)
def test_times_and_names_that_are_none_are_refused_with_an_example(
    recording: Recording, capsys: pytest.CaptureFixture, arguments: tuple[str, ...], text: str
) -> None:
    with pytest.raises(SystemExit, match="2"):
        _replay(recording, *arguments)
    assert text in capsys.readouterr().err
