import itertools

import mavlink_samples as samples
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mavlink_flight import Flight, S
from pymavlink.dialects.v20 import common

from edge.mavlink.outgoing.status_text import StatusTexts
from edge.mavlink.wire import codec
from edge.mavlink.wire.codec import Flag
from edge.transport.messages import Injected, Kind, Load, RecorderStatus, pack
from edge.transport.wire import FLAG_REPLAY, Stamp, encode_bytes


@pytest.fixture
def flight() -> Flight:
    return Flight()


def test_every_answer_goes_out_at_once(flight: Flight) -> None:
    for number in range(5):
        flight.hear(samples.answer(sequence=number))
    flight.wait(0.01)

    assert [message.sequence for message in flight.messages("FUSION_CLASSIFICATION")] == [0, 1, 2, 3, 4]


def test_answers_keep_to_the_rate_and_the_rest_is_counted() -> None:
    flight = Flight(max_rate_hz=10).hear_steadily(10, rate_hz=100)

    sent = len(flight.messages("FUSION_CLASSIFICATION"))
    assert 100 <= sent <= 103
    assert sent + flight.publisher.results_dropped == 1000


def test_changes_go_out_whatever_the_rate() -> None:
    flight = Flight(max_rate_hz=0.1)
    for number in range(50):
        flight.hear(samples.answer(sequence=number, class_id=number % 3, label=str(number % 3))).wait(0.01)
    alone = (samples.modality("iq"), samples.missing("image"))
    flight.hear(samples.answer(sequence=50, modalities=alone)).wait(0.01)

    assert [message.sequence for message in flight.messages("FUSION_CLASSIFICATION")] == list(range(51))


def test_a_change_of_class_is_told_once(flight: Flight) -> None:
    flight.hear_steadily(3).hear_steadily(3, class_id=2, label="bird")

    assert flight.texts() == [
        (common.MAV_SEVERITY_INFO, "FUSION: drone 75%"),
        (common.MAV_SEVERITY_INFO, "FUSION: bird 75%"),
    ]


def test_a_flickering_class_makes_one_text_a_second_with_the_newest(flight: Flight) -> None:
    for number in range(100):
        flight.hear(samples.answer(sequence=number, class_id=number % 2, label=samples.LABELS[number % 2])).wait(0.1)

    assert len(flight.texts()) <= 10
    gaps = [later - earlier for earlier, later in itertools.pairwise(flight.times_s("STATUSTEXT"))]
    assert min(gaps) >= 1.0


def test_a_lost_modality_is_told_within_a_second_with_its_reason_and_so_is_its_return(flight: Flight) -> None:
    alone = (samples.modality("iq", weight=1.0), samples.missing("image", "frozen"))
    flight.hear_steadily(2).hear_steadily(2, modalities=alone).hear_steadily(2)

    assert flight.texts()[1:] == [
        (common.MAV_SEVERITY_WARNING, "FUSION: image missing: frozen"),
        (common.MAV_SEVERITY_NOTICE, "FUSION: image is back"),
    ]
    assert flight.times_s("STATUSTEXT")[1:] == pytest.approx([2.3, 4.3], abs=0.05)


def test_a_change_of_engines_is_told_and_one_away_from_the_gpu_is_a_warning(flight: Flight) -> None:
    for backend in ("onnxruntime", "onnxruntime", "tensorrt", "tensorrt", "onnxruntime"):
        flight.publisher.on_status(samples.status(backend=backend), flight.now_ns)
        flight.wait(1.5)

    assert flight.texts() == [
        (common.MAV_SEVERITY_NOTICE, "FUSION: now on tensorrt"),
        (common.MAV_SEVERITY_WARNING, "FUSION: now on onnxruntime"),
    ]


def test_what_is_shed_is_told_at_each_change(flight: Flight) -> None:
    half, alone = (
        Load(level=1, name="image every 2nd", why="hot"),
        Load(level=5, name="image off, iq every 3rd", why="x"),
    )
    for load in (Load(), half, half, alone, Load()):
        flight.publisher.on_status(samples.status(load=load), flight.now_ns)
        flight.wait(1.5)

    assert flight.texts() == [
        (common.MAV_SEVERITY_WARNING, "FUSION: shed: image every 2nd"),
        (common.MAV_SEVERITY_WARNING, "FUSION: shed: image off, iq every 3rd"),
        (common.MAV_SEVERITY_NOTICE, "FUSION: nothing shed any more"),
    ]


def test_a_modality_that_is_back_at_once_is_not_talked_about(flight: Flight) -> None:
    alone = (samples.modality("iq", weight=1.0), samples.missing("image", "frozen"))
    flight.hear_steadily(2).hear_steadily(0.2, modalities=alone).hear_steadily(2)

    assert [text for _, text in flight.texts()] == ["FUSION: drone 75%"]


def test_no_data_is_a_warning(flight: Flight) -> None:
    flight.hear_steadily(1.5).hear(samples.no_data()).wait(0.1)

    assert flight.texts()[-1] == (common.MAV_SEVERITY_WARNING, "FUSION: no data")


def test_the_worst_news_is_told_first() -> None:
    texts = StatusTexts()
    texts.note("class", "bird", common.MAV_SEVERITY_INFO, "bird", now_ns=0)
    texts.note("pipeline", "silent", common.MAV_SEVERITY_CRITICAL, "silent", now_ns=1)

    assert [texts.take(2), texts.take(3), texts.take(2 + S)] == [
        (common.MAV_SEVERITY_CRITICAL, "silent", "pipeline"),
        None,
        (common.MAV_SEVERITY_INFO, "bird", "class"),
    ]


def test_a_text_longer_than_the_message_is_cut(flight: Flight) -> None:
    flight.hear(samples.answer(label="Ä" * 100)).wait(0.1)

    assert flight.texts() == [(common.MAV_SEVERITY_INFO, "FUSION: " + "?" * 42)]


def test_numbers_for_people_go_out_twice_a_second(flight: Flight) -> None:
    flight.hear_steadily(10, rate_hz=50)

    values = flight.messages("NAMED_VALUE_FLOAT")
    assert len(values) == 4 * 20
    assert {value.name: value.value for value in values} == {
        "FUS_CLS": 1.0,
        "FUS_CONF": 0.75,
        "FUS_LAT": 3.0,
        "FUS_ENT": pytest.approx(0.6257, abs=1e-4),
    }


def test_numbers_are_not_repeated_when_no_answer_came(flight: Flight) -> None:
    flight.hear(samples.answer()).wait(5)

    assert len(flight.messages("NAMED_VALUE_FLOAT")) == 4


def test_classes_are_named_when_the_model_is_known_and_every_half_minute(flight: Flight) -> None:
    flight.wait(1)
    flight.publisher.on_status(samples.status(), flight.now_ns)
    flight.wait(59)

    infos = flight.messages("FUSION_CLASS_INFO")
    assert [(info.class_id, info.class_count, info.label) for info in infos] == 2 * [
        (0, 3, "empty"),
        (1, 3, "drone"),
        (2, 3, "bird"),
    ]
    assert {info.model_id for info in infos} == {samples.MODEL_ID}
    assert flight.times_s("FUSION_CLASS_INFO") == pytest.approx([1.01] * 3 + [31.01] * 3)


def test_many_class_names_do_not_go_out_in_one_burst(flight: Flight) -> None:
    flight.publisher.on_status(samples.status(labels=tuple(str(n) for n in range(100))), 0)
    flight.wait(1)

    times = flight.times_s("FUSION_CLASS_INFO")
    assert len(times) == 100
    assert max(times.count(time_s) for time_s in times) == 4


def test_a_new_model_is_named_at_once(flight: Flight) -> None:
    flight.publisher.on_status(samples.status(), 0)
    flight.wait(1)
    flight.publisher.on_status(samples.status(labels=("other",), bundle_sha256="ff" * 32), flight.now_ns)
    flight.wait(1)

    assert (flight.messages("FUSION_CLASS_INFO")[-1].label, len(flight.messages("FUSION_CLASS_INFO"))) == ("other", 4)


def test_each_status_of_the_pipeline_becomes_one_of_ours(flight: Flight) -> None:
    flight.hear_steadily(1)
    flight.publisher.on_status(samples.status(), flight.now_ns)
    for latency_ms in range(1, 101):
        flight.hear(samples.answer(latency_ms={"total": float(latency_ms)}))
    later = {"radio": samples.accounting(received=205), "camera": samples.accounting(received=120)}
    flight.publisher.on_status(samples.status(time_ns=1_500_000_000, results=35, streams=later), flight.now_ns)
    flight.wait(0.1)

    message = flight.messages("FUSION_STATUS")[-1]
    assert len(flight.messages("FUSION_STATUS")) == 2
    assert (message.frames_processed, message.frames_dropped, message.results_queued) == (200, 10, 0)
    assert (message.latency_p50, message.latency_p99) == (50_000, 99_000)
    assert (message.input_rate, message.output_rate) == ([20_000, 3_000, 0, 0], 5_000)
    assert (message.state, message.modality_present) == (common.MAV_STATE_ACTIVE, 0b11)
    assert message.results_dropped == flight.publisher.results_dropped
    assert message.model_id == samples.MODEL_ID


def test_a_restarted_pipeline_makes_no_negative_rates(flight: Flight) -> None:
    flight.publisher.on_status(samples.status(), 0)
    fresh = {"radio": samples.accounting(received=0), "camera": samples.accounting(received=0)}
    flight.publisher.on_status(samples.status(time_ns=2 * S, results=0, streams=fresh), 0)
    flight.wait(0.1)

    assert flight.messages("FUSION_STATUS")[-1].input_rate == [0, 0, 0, 0]


def test_results_of_the_wire_are_published_and_a_replay_is_marked(flight: Flight) -> None:
    flight.publisher.on_message(samples.on_wire(samples.status()), 0)
    flight.publisher.on_message(samples.on_wire(samples.answer(), FLAG_REPLAY), 0)
    flight.wait(0.01)

    report = codec.classification_report(flight.messages("FUSION_CLASSIFICATION")[0])
    assert Flag.REPLAY in report.flags
    assert report.model_id == samples.MODEL_ID
    assert flight.publisher.rejected == {}


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ([b"garbage"], "wrong_parts"),
        ([b"garbage", b""], "short_header"),
        ([bytes(64), b""], "bad_magic"),
        (encode_bytes(Kind.CLASSIFICATION, Stamp(0, 0, 0, 0, 0), b"garbage"), "undecodable"),
        (encode_bytes(Kind.STATUS, Stamp(0, 0, 0, 0, 0), b"\x80"), "undecodable"),
        ([samples.on_wire(samples.answer())[0], b""], "wrong_size"),
    ],
)
def test_what_is_no_message_of_the_pipeline_is_counted(flight: Flight, parts: list[bytes], reason: str) -> None:
    flight.publisher.on_message(parts, 0)
    flight.wait(2)

    assert flight.publisher.rejected == {reason: 1}
    assert set(samples.names([message for _, message in flight.sent])) == {"HEARTBEAT"}


def test_other_kinds_of_message_are_left_alone(flight: Flight) -> None:
    flight.publisher.on_message(encode_bytes(Kind.TRUTH, Stamp(0, 0, 0, 0, 0), b"whatever"), 0)

    assert flight.publisher.rejected == {}


@given(st.lists(st.binary(max_size=80), max_size=3), st.binary(max_size=200))
def test_no_bytes_on_the_results_socket_raise(parts: list[bytes], payload: bytes) -> None:
    publisher = Flight().publisher

    publisher.on_message(parts, 0)
    publisher.on_message(encode_bytes(Kind.CLASSIFICATION, Stamp(0, 0, 0, 0, 0), payload), 0)
    publisher.on_message(encode_bytes(Kind.STATUS, Stamp(0, 0, 0, 0, 0), payload), 0)
    publisher.tick(0)


def test_the_strangest_status_and_answer_are_sent_all_the_same(flight: Flight) -> None:
    extreme = {"radio": samples.accounting(received=2**63, processed=-5, rejected={"x": 2**62})}
    infinite = samples.answer(
        sequence=2**63, confidence=float("nan"), latency_ms={"total": 1e308}, probs=(float("inf"),), class_id=2**63
    )
    flight.publisher.on_status(samples.status(), 0)
    flight.hear(infinite)
    flight.publisher.on_status(samples.status(time_ns=-(2**63), results=2**63, streams=extreme), 0)
    flight.wait(0.1)

    for message in (message for _, message in flight.sent):
        message.pack(common.MAVLink(None))


def _recorder(pause: str) -> tuple[bytes, bytes]:
    status = RecorderStatus(time_ns=1, free_bytes=1, pause=pause, recorded={}, lost={}, refused={})
    return encode_bytes(Kind.RECORDER, Stamp(0, 1, 0, 0, 0), pack(status))


def test_the_ground_hears_when_a_flight_is_not_recorded_any_more(flight: Flight) -> None:
    for pause, seconds in (("", 2), ("1 MB free", 2), ("", 2), ("", 8)):
        flight.publisher.on_message(_recorder(pause), flight.now_ns)
        flight.wait(seconds)

    assert [text for _, text in flight.texts() if "record" in text] == [
        "FUSION: recording paused: disk full",
        "FUSION: recording again",
        "FUSION: recorder is silent",
    ]


def test_nothing_is_said_of_a_recorder_that_nobody_heard(flight: Flight) -> None:
    assert [text for _, text in flight.wait(20).texts() if "record" in text] == []


def test_a_flight_with_injected_faults_says_every_half_minute_that_it_is_a_test(flight: Flight) -> None:
    injected = Injected(faults=("camera:stuck@10s+5s", "process:kill@20s"))
    for _ in range(61):
        flight.publisher.on_status(samples.status(injected=injected), flight.now_ns)
        flight.wait(1)

    told = [text for _, text in flight.texts() if "TEST" in text]
    assert told == ["FUSION: TEST, injected: camera:stuck, process:kill"] * 3
    assert not [text for _, text in Flight().hear_steadily(3).texts() if "TEST" in text]
