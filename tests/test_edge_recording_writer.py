"""Round trips: what was written comes back, in order, also through a reader that is not ours."""

import io
import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from mcap.reader import make_reader
from mcap.records import DataEnd
from mcap.stream_reader import CRCValidationError, StreamReader
from recorded import PERIOD_NS, START_NS, UTC_OFFSET_NS, decoded, iq_message, write_flight

from edge.recording.reader import Event, open_recording
from edge.recording.writer import RecordingWriter
from edge.transport.messages import (
    Classification,
    Kind,
    Message,
    ModalityAnswer,
    PipelineStatus,
    Pose,
    StreamAccounting,
    Truth,
)
from edge.transport.wire import Stamp, encode_array, encode_bytes
from models.errors import RecordingError

CLASSIFICATION = Classification(
    sequence=3,
    capture_ns=START_NS,
    answer_ns=START_NS + 5,
    class_id=1,
    label="field",
    confidence=0.7,
    probs=(0.3, 0.7),
    modalities=(
        ModalityAnswer(name="iq", mask=1.0, weight=1.0, class_id=1, confidence=0.7, capture_ns=START_NS, age_ms=0.1),
        ModalityAnswer(name="image", mask=0.0, reason="silent"),
    ),
    latency_ms={"total": 1.0 / 3.0},
    pose=Pose(capture_ns=1, latitude_deg=-35.1234567, longitude_deg=149.1, altitude_m=584.25),
)
STATUS = PipelineStatus(
    time_ns=START_NS,
    results=8,
    streams={
        "radio": StreamAccounting(
            received=5,
            processed=3,
            superseded=1,
            dropped_late=0,
            rejected={"bad_crc": 1},
            in_flight=0,
            lost_transport=2,
            state="live",
        )
    },
    model="demo 1.0",
    bundle_sha256="ab",
    labels=("site", "field"),
)
POSE = Pose(
    capture_ns=START_NS - 7,
    latitude_deg=-35.363261,
    longitude_deg=149.165230,
    altitude_m=584.1,
    roll_rad=0.1,
    pitch_rad=-0.2,
    yaw_rad=3.0,
)
TRUTH = Truth(capture_ns=START_NS, class_id=1, label="field")


@pytest.mark.parametrize("message", [CLASSIFICATION, STATUS, POSE, TRUTH], ids=lambda m: type(m).__name__)
def test_message_comes_back_equal(tmp_path: Path, message: Message) -> None:
    with RecordingWriter(tmp_path / "flight.mcap") as writer:
        writer.write_message(message, START_NS)
    (event,) = open_recording(tmp_path / "flight.mcap").events()
    assert event.message == message
    assert (event.log_ns, event.header, event.payload) == (START_NS, None, b"")


@pytest.mark.parametrize(
    ("kind", "array"),
    [
        (Kind.IQ, np.arange(64, dtype=np.float32).reshape(32, 2)),
        (Kind.IQ, np.arange(64, dtype=np.int16).reshape(32, 2)),
        (Kind.FRAME, np.arange(60, dtype=np.uint8).reshape(4, 5, 3)),
    ],
)
def test_sensor_array_comes_back_byte_for_byte(tmp_path: Path, kind: Kind, array: np.ndarray) -> None:
    header_bytes, payload = encode_array(kind, Stamp(2, 5, 7, START_NS, START_NS + 3), array, with_crc=True)
    with RecordingWriter(tmp_path / "flight.mcap") as writer:
        writer.write_sensor("sensor", decoded(header_bytes), header_bytes, payload, START_NS + 9)
    (event,) = open_recording(tmp_path / "flight.mcap").events()
    assert (event.kind, event.stream, event.log_ns) == (kind, "sensor", START_NS + 9)
    assert (event.header, event.payload) == (decoded(header_bytes), payload.tobytes())


@pytest.mark.parametrize(
    "payload", [b"\xff\xd8\xffrest", b"\x89PNG\r\n", b"junk", b""], ids=["jpeg", "png", "junk", "nothing"]
)
def test_encoded_frame_comes_back_byte_for_byte(tmp_path: Path, payload: bytes) -> None:
    header_bytes, _ = encode_bytes(Kind.ENCODED_FRAME, Stamp(2, 5, 7, START_NS, START_NS, flags=4), payload)
    with RecordingWriter(tmp_path / "flight.mcap", utc_offset_ns=UTC_OFFSET_NS) as writer:
        writer.write_sensor("camera", decoded(header_bytes), header_bytes, payload, START_NS)
    (event,) = open_recording(tmp_path / "flight.mcap").events()
    assert (event.header, event.payload) == (decoded(header_bytes), payload)


def _read_elsewhere(path: Path) -> list:
    with path.open("rb") as file:
        return list(make_reader(file, validate_crcs=True).iter_messages())


def test_other_programs_read_the_recording_with_its_index(tmp_path: Path) -> None:
    write_flight(tmp_path / "flight.mcap", 100)
    with (tmp_path / "flight.mcap").open("rb") as file:
        summary = make_reader(file).get_summary()
    assert summary.statistics.message_count == 100
    assert summary.statistics.chunk_count == len(summary.chunk_indexes) > 5
    messages = [message for _, _, message in _read_elsewhere(tmp_path / "flight.mcap")]
    assert [message.sequence for message in messages] == list(range(100))
    assert messages[0].publish_time == START_NS + UTC_OFFSET_NS
    assert messages[0].log_time == START_NS + 1_000_000 + UTC_OFFSET_NS


def test_checksums_over_data_and_index_are_those_of_a_library_that_is_not_ours(tmp_path: Path) -> None:
    path = tmp_path / "flight.mcap"
    with RecordingWriter(path, metadata={"pilot": "somebody"}) as writer:
        writer.attach("flight.yaml", "application/yaml", b"bundle: x")
        for sequence in range(40):
            writer.write_sensor("radio", *iq_message(sequence, START_NS), START_NS + sequence)
    data = path.read_bytes()
    ends = [r for r in StreamReader(io.BytesIO(data), validate_crcs=True).records if isinstance(r, DataEnd)]
    assert [end.data_section_crc != 0 for end in ends] == [True]
    with pytest.raises(CRCValidationError):
        list(StreamReader(io.BytesIO(data.replace(b"somebody", b"nobodies")), validate_crcs=True).records)


def test_schemas_that_viewers_plot_have_no_references(tmp_path: Path) -> None:
    with RecordingWriter(tmp_path / "flight.mcap") as writer:
        for message in (CLASSIFICATION, STATUS, POSE, TRUTH):
            writer.write_message(message, START_NS)
    for schema, _, _ in _read_elsewhere(tmp_path / "flight.mcap"):
        assert json.loads(schema.data)["type"] == "object"
        assert b"$ref" not in schema.data
        assert b"anyOf" not in schema.data


def misfits(value: Any, schema: dict[str, Any], path: str = "") -> list[str]:
    """Return where a value is not what a JSON schema without references says."""
    kinds = {"object": dict, "array": list, "string": str, "integer": int, "number": (int, float), "boolean": bool}
    if not isinstance(value, kinds[schema["type"]]):
        return [f"{path}: {value!r} is no {schema['type']}"]
    found = []
    if isinstance(value, dict):
        found += [f"{path}: no {name}" for name in schema.get("required", ()) if name not in value]
        for name, child in value.items():
            inner = schema.get("properties", {}).get(name, schema.get("additionalProperties"))
            found += misfits(child, inner, f"{path}/{name}") if isinstance(inner, dict) else [f"{path}: {name} unknown"]
    if isinstance(value, list):
        found += [text for child in value for text in misfits(child, schema["items"], f"{path}[]")]
    return found


WITHOUT_POSE = msgspec.structs.replace(CLASSIFICATION, pose=None)


@pytest.mark.parametrize("message", [CLASSIFICATION, WITHOUT_POSE, STATUS, POSE, TRUTH], ids=lambda m: type(m).__name__)
def test_what_is_recorded_is_what_its_schema_says(tmp_path: Path, message: Message) -> None:
    with RecordingWriter(tmp_path / "flight.mcap") as writer:
        writer.write_message(message, START_NS)
    ((schema, _, stored),) = _read_elsewhere(tmp_path / "flight.mcap")
    assert misfits(json.loads(stored.data), json.loads(schema.data)) == []


def test_events_come_in_order_of_time_then_channel_then_sequence(tmp_path: Path) -> None:
    at_ns = [START_NS + step for step in (5, 0, 3_000_000_000, 5, 1)]
    with RecordingWriter(tmp_path / "flight.mcap") as writer:
        for sequence, log_ns in enumerate(at_ns):
            writer.write_sensor("radio", *iq_message(sequence, START_NS), log_ns)
            writer.write_message(TRUTH, log_ns)
    events = list(open_recording(tmp_path / "flight.mcap").events())
    assert [event.log_ns - START_NS for event in events[::2]] == [0, 1, 5, 5, 3_000_000_000]
    assert [event.kind for event in events] == [Kind.IQ, Kind.TRUTH] * 2 + [Kind.IQ] * 2 + [Kind.TRUTH] * 2 + [
        Kind.IQ,
        Kind.TRUTH,
    ]
    assert [event.header.sequence for event in events if event.header] == [1, 4, 0, 3, 2]


def test_streams_tell_count_rate_and_gaps(tmp_path: Path) -> None:
    with RecordingWriter(tmp_path / "flight.mcap", metadata={"pilot": "me"}) as writer:
        writer.attach("flight.yaml", "application/yaml", b"bundle: x")
        for sequence in (0, 1, 2, 6, 7, 0, 1):
            writer.write_sensor("radio", *iq_message(sequence, START_NS), START_NS + sequence * PERIOD_NS)
    recording = open_recording(tmp_path / "flight.mcap")
    radio = recording.streams["radio"]
    assert (radio.kind, radio.modality, radio.count) == (Kind.IQ, "iq", 7)
    assert (recording.start_ns, recording.duration_ns, recording.event_count) == (START_NS, 7 * PERIOD_NS, 7)
    assert recording.metadata["pilot"] == "me"
    assert recording.attachments == {"flight.yaml": b"bundle: x"}
    assert not recording.damage.is_damaged


def test_gaps_are_counted_and_a_restarted_source_is_none(tmp_path: Path) -> None:
    with RecordingWriter(tmp_path / "flight.mcap") as writer:
        for step, sequence in enumerate((5, 6, 9, 0, 1, 3)):
            writer.write_sensor("radio", *iq_message(sequence, START_NS), START_NS + step * PERIOD_NS)
    radio = open_recording(tmp_path / "flight.mcap").streams["radio"]
    assert (radio.missing, radio.rate_hz) == (3, 100.0)


@pytest.mark.parametrize("capture_ns", [-(1 << 63), (1 << 63) - 1])
def test_absurd_capture_time_is_kept(tmp_path: Path, capture_ns: int) -> None:
    with RecordingWriter(tmp_path / "flight.mcap") as writer:
        writer.write_sensor("radio", *iq_message(0, capture_ns), START_NS)
    (event,) = open_recording(tmp_path / "flight.mcap").events()
    assert event.header is not None
    assert event.header.capture_ns == capture_ns


def test_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one.mcap", "two.mcap"):
        write_flight(tmp_path / name, 20)
    assert (tmp_path / "one.mcap").read_bytes() == (tmp_path / "two.mcap").read_bytes()


def test_flight_without_messages_can_be_opened(tmp_path: Path) -> None:
    RecordingWriter(tmp_path / "flight.mcap").close()
    recording = open_recording(tmp_path / "flight.mcap")
    assert list(recording.events()) == []
    assert (recording.streams, recording.start_ns, recording.duration_ns) == ({}, 0, 0)


def test_existing_recording_is_never_overwritten(tmp_path: Path) -> None:
    write_flight(tmp_path / "flight.mcap", 1)
    with pytest.raises(RecordingError, match="choose another file"):
        RecordingWriter(tmp_path / "flight.mcap")
    assert open_recording(tmp_path / "flight.mcap").event_count == 1


def test_answer_on_a_sensor_stream_is_refused(tmp_path: Path) -> None:
    header_bytes, payload = encode_bytes(Kind.TRUTH, Stamp(0, 0, 0, 0, 0), b"")
    with RecordingWriter(tmp_path / "flight.mcap") as writer, pytest.raises(RecordingError, match="TRUTH"):
        writer.write_sensor("radio", decoded(header_bytes), header_bytes, payload, START_NS)


FILL_A_SMALL_DISK = """
    import resource, sys
    from pathlib import Path
    from edge.recording.writer import RecordingWriter
    from models.errors import RecordingError
    from recorded import iq_message
    resource.setrlimit(resource.RLIMIT_FSIZE, (3_000_000, 3_000_000))
    with RecordingWriter(Path(sys.argv[1])) as writer:
        try:
            for sequence in range(200):
                writer.write_sensor("radio", *iq_message(sequence, sequence), sequence)
        except RecordingError as error:
            print(error)
"""


def test_full_disk_stops_the_recording_and_keeps_what_was_saved(tmp_path: Path, root: Path) -> None:
    path = tmp_path / "flight.mcap"
    command = [sys.executable, "-c", textwrap.dedent(FILL_A_SMALL_DISK), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=root / "tests")
    assert "recording stopped" in done.stdout
    recording = open_recording(path)
    assert [event.header.sequence for event in recording.events() if event.header] == list(range(recording.event_count))
    assert recording.event_count == 32
    assert (recording.damage.is_truncated, recording.damage.skipped_bytes) == (True, 0)


def test_slow_stream_is_written_within_a_second(tmp_path: Path) -> None:
    with RecordingWriter(tmp_path / "flight.mcap") as writer:
        for step in range(5):
            writer.write_message(TRUTH, START_NS + step * 500_000_000)
        assert open_recording(tmp_path / "flight.mcap").event_count == 3


def test_flush_writes_what_is_waiting(tmp_path: Path) -> None:
    with RecordingWriter(tmp_path / "flight.mcap") as writer:
        writer.write_message(TRUTH, START_NS)
        assert open_recording(tmp_path / "flight.mcap").event_count == 0
        writer.flush()
        events: list[Event] = list(open_recording(tmp_path / "flight.mcap").events())
        assert [event.message for event in events] == [TRUTH]
