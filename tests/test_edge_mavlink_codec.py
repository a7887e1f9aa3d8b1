import json
import math
import struct
import subprocess
import sys

import mavlink_samples as samples
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.mavlink.network.link import Link
from edge.mavlink.wire import codec
from edge.mavlink.wire.codec import ClassificationReport, Flag, Position, RankedClass
from edge.transport.messages import Classification, ModalityAnswer, Pose

UNKNOWN = 65_535
NOWHERE = 2**31 - 1
CRC_EXTRA = 81
FIELDS = (
    900_000, 7, samples.MODEL_ID, 473_977_400, 85_455_900, 488_000, 5_000,
    1, 2, 0, UNKNOWN,
    7_500, 2_000, 500, UNKNOWN,
    2_500, 2_500, UNKNOWN, UNKNOWN,
    5_000, 5_000, 0, 0,
    6_257, UNKNOWN, 8, 3, 3,
    0, 0, 0, 0, 0, b"drone",
)  # fmt: skip
"""Of `placed()`: what stands on the wire, in the order of the wire."""
GOLDEN = (
    "fd5600000003bf10ef00a0bb0d000000000007000000dec0ad0b3852401c1cf417054072070088130000010002000000ffff4c1dd007"
    "f401ffffc409c409ffffffff88138813000000007118ffff0800030300000000000000000064726f6e654069"
)
"""The same frame as bytes, CRC included."""


def placed() -> Classification:
    return samples.answer(
        pose=Pose(capture_ns=900_000_000, latitude_deg=47.39774, longitude_deg=8.54559, altitude_m=488.0)
    )


def report(answer: Classification, *, now_ns: int = 905_000_000, is_replay: bool = False) -> ClassificationReport:
    return codec.report_of(answer, model_id=samples.MODEL_ID, now_ns=now_ns, max_age_ms=300.0, is_replay=is_replay)


def sent(answer: Classification) -> tuple:
    """Return the fields of the answer's frame, taken apart without pymavlink."""
    return struct.unpack(samples.CLASSIFICATION, payload_of(codec.classification_message(report(answer))))


def payload_of(message: object) -> bytes:
    return samples.decode_frame(frame_of(message), CRC_EXTRA, 97).payload


def frame_of(message: object) -> bytes:
    transport = samples.FakeTransport()
    link = Link(transport, 3, 191)
    link.send(message)
    return transport.sent[0]


def received(message: object) -> ClassificationReport:
    """Return the report that arrives when a message travels over a link."""
    transport = samples.FakeTransport()
    transport.incoming = [("peer", frame_of(message))]
    (item,) = Link(transport, 255, 190).receive()
    return codec.classification_report(item.message)


def test_a_classification_becomes_the_golden_frame() -> None:
    payload = struct.pack(samples.CLASSIFICATION, *FIELDS)
    expected = samples.encode_frame(samples.Frame(0, 3, 191, 61_200, payload), CRC_EXTRA)

    frame = frame_of(codec.classification_message(report(placed())))

    assert frame == expected
    assert frame.hex() == GOLDEN


def test_the_answer_is_the_first_class_even_where_another_is_more_probable() -> None:
    fields = sent(samples.answer(class_id=2, label="bird", confidence=0.6, probs=(0.05, 0.75, 0.2)))

    assert fields[7:11] == (2, 1, 0, UNKNOWN)
    assert fields[11:15] == (6_000, 7_500, 500, UNKNOWN)


def test_only_the_four_most_probable_classes_travel() -> None:
    fields = sent(samples.answer(class_id=5, confidence=0.5, probs=(0.05, 0.2, 0.1, 0.04, 0.11, 0.5)))

    assert fields[7:11] == (5, 1, 4, 2)


def test_no_data_abstains_and_names_no_class() -> None:
    fields = sent(samples.no_data())

    assert fields[7:11] == fields[11:15] == (UNKNOWN,) * 4
    assert fields[23] == UNKNOWN
    assert fields[25] == Flag.ABSTAIN | Flag.MODALITY_MISSING | Flag.TIME_UNSYNCED
    assert fields[-1].rstrip(b"\0") == b"NO_DATA"


def test_a_missing_modality_has_no_bit_no_weight_and_unknown_entropy() -> None:
    fields = sent(samples.answer(modalities=(samples.modality("iq", weight=1.0), samples.missing("image"))))

    assert fields[15:19] == (2_500, UNKNOWN, UNKNOWN, UNKNOWN)
    assert fields[19:23] == (10_000, 0, 0, 0)
    assert fields[25] == Flag.MODALITY_MISSING | Flag.TIME_UNSYNCED
    assert fields[26:28] == (0b01, 0b11)


def test_an_input_older_than_the_limit_when_sent_is_stale() -> None:
    old = samples.modality("image", capture_ns=500_000_000)
    answer = samples.answer(modalities=(samples.modality("iq"), old))

    assert Flag.STALE_INPUT in report(answer, now_ns=800_000_001).flags
    assert Flag.STALE_INPUT not in report(answer, now_ns=800_000_000).flags


def test_a_replay_says_so() -> None:
    assert Flag.REPLAY in report(samples.answer(), is_replay=True).flags
    assert Flag.REPLAY not in report(samples.answer()).flags


def test_the_position_is_the_vehicles_and_never_claims_to_be_the_targets() -> None:
    seen = received(codec.classification_message(report(placed())))

    assert seen.position == Position(47.39774, 8.54559, 488.0)
    assert Flag.GEO_VALID not in seen.flags


@pytest.mark.parametrize(
    ("latitude_deg", "longitude_deg"), [(91.0, 8.0), (47.0, -181.0), (math.nan, 8.0), (47.0, math.inf)]
)
def test_a_place_that_is_none_is_unknown(latitude_deg: float, longitude_deg: float) -> None:
    pose = Pose(capture_ns=0, latitude_deg=latitude_deg, longitude_deg=longitude_deg, altitude_m=0.0)

    assert sent(samples.answer(pose=pose))[3:6] == (NOWHERE, NOWHERE, NOWHERE)


def test_an_altitude_that_is_none_is_unknown_beside_a_known_place() -> None:
    pose = Pose(capture_ns=0, latitude_deg=1.0, longitude_deg=2.0, altitude_m=math.nan)

    assert sent(samples.answer(pose=pose))[3:6] == (10_000_000, 20_000_000, NOWHERE)


def test_a_thing_whose_place_is_known_is_said_to_be_there() -> None:
    there = codec.placed(report(placed()), Position(47.4, 8.55, 412.0), 37.01)
    seen = received(codec.classification_message(there))

    assert seen.position == Position(47.4, 8.55, 412.0)
    assert Flag.GEO_VALID in seen.flags
    assert seen.h_acc_m == 37.1, "never better than it is"


@pytest.mark.parametrize(
    ("metres", "field"),
    [(None, UNKNOWN), (0.0, 0), (0.05, 1), (12.3, 123), (6553.4, 65_534), (1e9, 65_534), (1e308, 65_534),
     (math.nan, UNKNOWN), (math.inf, UNKNOWN), (-1.0, UNKNOWN)],
)  # fmt: skip
def test_an_accuracy_that_does_not_fit_is_the_greatest_and_one_that_is_none_unknown(
    metres: float | None, field: int
) -> None:
    message = codec.classification_message(msgspec.structs.replace(report(placed()), h_acc_m=metres))

    assert struct.unpack(samples.CLASSIFICATION, payload_of(message))[24] == field


def test_weights_sum_to_the_whole_after_rounding() -> None:
    thirds = tuple(samples.modality(name, weight=1 / 3) for name in ("iq", "image", "audio"))

    weights = sent(samples.answer(modalities=thirds))[19:23]

    assert sum(weights) == 10_000
    assert sorted(weights) == [0, 3_333, 3_333, 3_334]


def test_a_long_label_is_cut_between_characters() -> None:
    seen = received(codec.classification_message(report(samples.answer(label="Störsender-über"))))

    assert seen.label == "Störsender-übe"
    assert len(seen.label.encode()) == 16


def test_the_model_id_is_the_start_of_the_bundle_hash() -> None:
    assert f"{codec.model_id_of(samples.SHA256):08x}" == samples.SHA256[:8]
    assert codec.model_id_of("") == 0
    assert codec.model_id_of("not hexadecimal") == 0


@pytest.mark.parametrize(
    ("probs", "expected"), [((0.5, 0.5), 1.0), ((1.0, 0.0, 0.0), 0.0), ((), None), ((math.nan, 1.0), None)]
)
def test_entropy_is_one_where_all_classes_are_equal_and_none_where_there_is_no_distribution(
    probs: tuple[float, ...], expected: float | None
) -> None:
    assert codec.entropy_of(probs) == expected


shares = st.integers(0, 10_000).map(lambda steps: steps / 10_000)
counts = st.integers(0, 2**32 - 1)
positions = st.builds(
    Position,
    st.integers(-900_000_000, 900_000_000).map(lambda steps: steps / 1e7),
    st.integers(-1_800_000_000, 1_800_000_000).map(lambda steps: steps / 1e7),
    st.none() | st.integers(-1_000_000, 1_000_000_000).map(lambda steps: steps / 1000),
)


@st.composite
def reports(draw: st.DrawFn) -> ClassificationReport:
    modalities = draw(st.integers(1, 4))
    return ClassificationReport(
        time_us=draw(st.integers(0, 2**64 - 1)),
        sequence=draw(counts),
        model_id=draw(counts),
        latency_us=draw(counts),
        classes=tuple(draw(st.lists(st.builds(RankedClass, st.integers(0, 65_534), st.none() | shares), max_size=4))),
        entropies=tuple(draw(st.none() | shares) for _ in range(modalities)),
        weights=tuple(draw(shares) for _ in range(modalities)),
        entropy_fused=draw(st.none() | shares),
        flags=Flag(draw(st.integers(0, 2**16 - 1))),
        present=draw(st.integers(0, (1 << modalities) - 1)),
        expected=(1 << modalities) - 1,
        position=draw(st.none() | positions),
        h_acc_m=draw(st.none() | st.integers(0, 65_534).map(lambda steps: steps / 10)),
        label=draw(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=16)),
    )


@given(reports())
def test_every_report_survives_the_journey(original: ClassificationReport) -> None:
    assert received(codec.classification_message(original)) == original


numbers = st.integers(-(2**63), 2**64 - 1)
floats = st.floats(allow_nan=True, allow_infinity=True)
modality_answers = st.builds(
    ModalityAnswer, name=st.text(max_size=5), mask=floats, weight=floats, entropy=floats, capture_ns=numbers
)
answers = st.builds(
    Classification,
    sequence=numbers,
    capture_ns=numbers,
    answer_ns=numbers,
    class_id=numbers,
    label=st.text(max_size=40),
    confidence=floats,
    probs=st.lists(floats, max_size=8).map(tuple),
    modalities=st.lists(modality_answers, max_size=12).map(tuple),
    pose=st.none() | st.builds(Pose, capture_ns=numbers, latitude_deg=floats, longitude_deg=floats, altitude_m=floats),
)


@given(answers, numbers)
def test_no_value_however_strange_keeps_an_answer_from_being_sent(answer: Classification, now_ns: int) -> None:
    message = codec.classification_message(report(answer, now_ns=now_ns))

    payload_of(message)


@given(st.builds(Position, floats, floats, st.none() | floats), floats)
def test_no_place_however_strange_keeps_an_answer_from_being_sent(position: Position, h_acc_m: float) -> None:
    message = codec.classification_message(codec.placed(report(placed()), position, h_acc_m))

    payload_of(message)


def test_a_status_survives_the_journey_and_unknown_latencies_stay_unknown() -> None:
    message = codec.status_message(
        codec.StatusReport(
            time_us=5,
            model_id=samples.MODEL_ID,
            frames_processed=200,
            frames_dropped=-1,
            results_dropped=3,
            latency_p50_us=None,
            latency_p99_us=2**40,
            input_rates_hz=(100.0, 29.97),
            output_rate_hz=1e9,
            state=4,
            present=3,
        )
    )

    payload = samples.decode_frame(frame_of(message), 97, 52).payload

    assert struct.unpack("<QIIIIIIIi4HHBB", payload) == (
        5, samples.MODEL_ID, 200, 0, 0, 3, 2**32 - 1, 2**32 - 1, NOWHERE, 10_000, 2_997, 0, 0, 65_535, 4, 3,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("offset_us", "field"), [(None, NOWHERE), (-12_345, -12_345), (2**31 - 1, NOWHERE), (-(2**40), NOWHERE), (0, 0)]
)
def test_an_offset_of_the_clocks_that_does_not_fit_is_unknown(offset_us: int | None, field: int) -> None:
    message = codec.status_message(
        codec.StatusReport(
            time_us=0, model_id=0, frames_processed=0, frames_dropped=0, results_dropped=0, latency_p50_us=None,
            latency_p99_us=None, input_rates_hz=(), output_rate_hz=0.0, state=0, present=0, clock_offset_us=offset_us,
        )
    )  # fmt: skip

    assert struct.unpack("<QIIIIIIIi4HHBB", samples.decode_frame(frame_of(message), 97, 52).payload)[8] == field


def test_a_class_info_names_the_class() -> None:
    message = codec.class_info_message(samples.MODEL_ID, 1, samples.LABELS)

    payload = samples.decode_frame(frame_of(message), 86, 56).payload

    assert struct.unpack("<IHH48s", payload) == (samples.MODEL_ID, 1, 3, b"drone".ljust(48, b"\0"))
    assert codec.class_label(message) == "drone"


def test_the_codec_imports_neither_the_big_dialect_nor_connections() -> None:
    code = "import json, sys, edge.mavlink.wire.codec; print(json.dumps([n for n in sys.modules if 'pymavlink' in n]))"
    loaded = json.loads(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True).stdout)

    assert loaded == []
