"""The benchmark: its plan, its made-up messages, and what its command refuses."""

import ctypes
import dataclasses
import os
import sys
import threading
import time
from typing import Any

import msgspec
import numpy as np
import pytest

from edge.bench import feeder as feeders
from edge.bench import plan as plans
from edge.bench.feed import FRAME_PX, Closed, Feed, Messages, Open, Sent
from edge.bench.feeder import Feeder
from edge.bench.ingest import samples_at
from edge.bench.latency import _joules_per_result, waits_ms
from edge.bench.percentiles import MIN_SAMPLES
from edge.bench.plan import PATHS, QUICK, SCENARIOS, full_lengths, make_plan, parse_scenarios
from edge.bench.rig import Aircraft, Turn, flight_config, unaccounted
from edge.bench.sending import wake_on_time
from edge.bench.throughput import _since
from edge.cli import main
from edge.pipeline.gate import Gate
from edge.transport.messages import Classification, Kind, StreamAccounting, pack
from edge.transport.sockets import Publisher, Subscriber
from edge.transport.wire import Stamp, decode_message, encode_bytes
from models.bundle import Bundle, open_bundle, shipped_bundle
from models.errors import ConfigError, LinkError
from models.preprocess import opencv
from models.spec import ImageRecipe, IqRecipe, ModalitySpec

START_TIMEOUT_S = 20.0
PR_GET_TIMERSLACK = 30
ALL = frozenset(SCENARIOS)
IMAGE = ModalitySpec(name="image", recipe=ImageRecipe(height_px=32, width_px=32), feature_size=4)
IQ = ModalitySpec(name="iq", recipe=IqRecipe(window_samples=1024, sample_rate_hz=1_000_000), feature_size=4)


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return open_bundle(shipped_bundle())


def feed_of(folder: Any, payload: Any = "iq", samples: int = 10_000) -> Feed:
    modality = IQ if payload == "iq" else IMAGE
    return Feed(name="one", modality=modality, rate_hz=200.0, folder=str(folder), payload=payload, samples=samples)


def await_idle(feeder: Feeder) -> None:
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while feeder.is_busy and time.monotonic() < deadline_s:
        time.sleep(0.01)
    assert not feeder.is_busy


def test_radio_messages_hold_what_they_are_asked_for_and_pass_the_gate(tmp_path) -> None:
    messages, gate = Messages(feed_of(tmp_path)), Gate()
    windows = [messages.at(n) for n in range(20)]
    assert {window.shape for window in windows} == {(10_000, 2)}
    assert messages.at(3, 2000).shape == (2000, 2)
    assert windows[0].dtype == np.int16
    assert messages.size_bytes == 40_000
    assert [gate.check_iq(window[-1024:]) for window in windows] == [None] * len(windows)


def test_frames_are_of_720_lines_and_pass_the_gate(tmp_path) -> None:
    messages, gate = Messages(feed_of(tmp_path, "raw")), Gate()
    assert messages.at(0).shape == (*FRAME_PX, 3)
    assert [gate.check_frame(messages.at(n)) for n in range(8)] == [None] * 8


def test_jpegs_are_of_720_lines_and_pass_the_gate(tmp_path) -> None:
    messages, gate, cv2 = Messages(feed_of(tmp_path, "jpeg")), Gate(), opencv()
    frames = [cv2.imdecode(np.frombuffer(messages.at(n), np.uint8), cv2.IMREAD_COLOR) for n in range(8)]
    assert frames[0].shape == (*FRAME_PX, 3)
    assert [gate.check_frame(frame) for frame in frames] == [None] * 8


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux alone lets threads sleep longer than asked for")
def test_a_sender_asks_to_be_woken_up_on_time() -> None:
    slacks_ns: list[int] = []

    def ask() -> None:
        assert wake_on_time()
        slacks_ns.append(ctypes.CDLL(None).prctl(PR_GET_TIMERSLACK, 0, 0, 0, 0))

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    assert slacks_ns == [1]


class GoneParent:
    """The other end of a feeder's pipe, which goes away once it has heard that the feeder is there."""

    def __init__(self) -> None:
        self.heard: list[Sent | str] = []

    def send(self, sent: Sent | str) -> None:
        self.heard.append(sent)

    def recv(self) -> Open | Closed:
        raise EOFError


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux alone lets threads sleep longer than asked for")
def test_a_feeder_is_woken_up_on_time_before_it_sends_anything(monkeypatch) -> None:
    monkeypatch.setattr(feeders.signal, "signal", lambda *_: None)  # only the main thread may set any
    parent, slacks_ns = GoneParent(), []

    def serve() -> None:
        feeders._serve((), "ipc:///unused", parent)
        slacks_ns.append(ctypes.CDLL(None).prctl(PR_GET_TIMERSLACK, 0, 0, 0, 0))

    thread = threading.Thread(target=serve)
    thread.start()
    thread.join()
    assert parent.heard == [Sent()]
    assert slacks_ns == [1]


def test_a_feeder_sends_what_it_is_told_to_the_endpoint_it_is_told(tmp_path) -> None:
    feed = feed_of(tmp_path)
    feeder = Feeder((feed,), f"ipc://{tmp_path}/results")
    with feeder, Subscriber(feed.endpoint) as flown, Subscriber(feed.bare_endpoint) as bare:
        await_idle(feeder)
        feeder.start(Open(names=("one",), seconds=0.02, is_bare=True))
        await_idle(feeder)
        assert feeder.last.messages == {"one": 4}
        feeder.start(Open(names=("one",), seconds=0.02, rate_hz=100.0))
        await_idle(feeder)
        counts = [sum(1 for _ in iter(lambda s=s: s.receive(200), None)) for s in (flown, bare)]
    assert counts == [2, 4]


def test_messages_say_that_they_were_captured_when_they_were_due(tmp_path) -> None:
    feed = feed_of(tmp_path)
    with Feeder((feed,), f"ipc://{tmp_path}/results") as feeder, Subscriber(feed.endpoint) as subscriber:
        await_idle(feeder)
        feeder.start(Open(names=("one",), seconds=0.01, samples=5000))
        headers = [decode_message(subscriber.receive(10_000))[0] for _ in range(2)]
    assert headers[0].kind == Kind.IQ
    assert headers[0].payload_bytes == 5000 * 4
    assert headers[1].capture_ns - headers[0].capture_ns == 5_000_000
    assert headers[0].send_ns >= headers[0].capture_ns + 5_000_000


def test_a_closed_loop_sends_one_message_for_each_answer(tmp_path) -> None:
    feed, results = feed_of(tmp_path), f"ipc://{tmp_path}/results"
    with Publisher(results) as publisher, Feeder((feed,), results) as feeder, Subscriber(feed.endpoint) as inbox:
        await_idle(feeder)
        feeder.start(Closed(names=("one",), seconds=30.0, most=3))
        received, begun_ns = 0, []
        while feeder.is_busy:
            if inbox.receive(20) is not None:
                received += 1
                begun_ns.append(time.monotonic_ns())
                publisher.send(answer(received))
    assert feeder.last.messages == {"one": received}
    assert received >= 4, "three turns, and at least one to join"
    assert begun_ns[0] < feeder.last.begun_ns < begun_ns[-1]


def answer(sequence: int) -> Any:
    made = Classification(
        sequence=sequence,
        capture_ns=1,
        answer_ns=2,
        class_id=0,
        label="lake",
        confidence=1.0,
        probs=(1.0,),
        modalities=(),
        latency_ms={"total": 1.0},
    )
    return encode_bytes(Kind.CLASSIFICATION, Stamp(0, 1, sequence, 1, 2), pack(made))


def test_a_closed_loop_that_nobody_answers_ends(tmp_path) -> None:
    feed, results = feed_of(tmp_path), f"ipc://{tmp_path}/results"
    with Publisher(results), Feeder((feed,), results) as feeder, Subscriber(feed.endpoint):
        await_idle(feeder)
        feeder.start(Closed(names=("one",), seconds=0.1))
        with pytest.raises(LinkError, match="no answer"):
            await_idle(feeder)


def test_a_feeder_whose_process_dies_is_named(tmp_path) -> None:
    feed = feed_of(tmp_path)
    with Feeder((feed,), f"ipc://{tmp_path}/results") as feeder, Subscriber(feed.endpoint):
        await_idle(feeder)
        feeder.start(Open(names=("one",), seconds=60.0))
        os.kill(feeder.process_id, 9)
        with pytest.raises(LinkError, match=r"one.*died"):
            await_idle(feeder)


def test_a_message_that_is_superseded_counts_until_a_newer_one_is_answered() -> None:
    due_ns = [100 + 10 * n for n in range(5)]
    answered = [(due_ns[0], 104), (due_ns[3], 137)]
    waits = waits_ms(100, 10, 5, answered, 190)
    assert [round(wait * 1e6) for wait in waits] == [4, 27, 17, 7, 50]  # after the last answer: as long as one listened


def test_a_stall_counts_at_the_end_of_a_turn_as_it_does_in_the_middle() -> None:
    def stalled(first: int) -> list[float]:
        answered = [(n * 10, n * 10 + 1) for n in range(150) if not first <= n < first + 30]
        return waits_ms(0, 10, 150, answered, 1501)

    assert len(stalled(120)) == len(stalled(60)) == 150
    assert sorted(stalled(120)) == sorted(stalled(60))


def test_an_older_answer_that_comes_later_makes_nothing_known_later() -> None:
    waits = waits_ms(0, 1_000, 2, [(1, 9_000), (999, 1_500)], 10_000)
    assert [round(wait * 1e6) for wait in waits] == [1_500, 500]


def test_a_sender_that_is_late_makes_answers_late_and_nothing_answered_took_as_long_as_one_listened() -> None:
    assert waits_ms(0, 1_000_000, 1, [(0, 8_000_000)], 60_000_000) == [8.0]
    assert waits_ms(0, 1_000_000, 3, [], 60_000_000) == [60.0, 59.0, 58.0]


def too_little() -> int:
    return 64 << 20


def no_folder() -> int:
    raise FileNotFoundError


@pytest.mark.parametrize("free_bytes", [too_little, no_folder])
def test_a_machine_without_shared_memory_is_measured_without_it(bundle: Bundle, monkeypatch, free_bytes) -> None:
    monkeypatch.setattr(plans, "free_bytes", free_bytes)
    plan = make_plan(bundle, frozenset({"overload"}), QUICK)
    assert [rig.name for rig in plan.rigs] == ["iq", "image"]
    assert [(absent.name, "/dev/shm" in absent.remedy) for absent in plan.absent] == [("image-shm", True)]


def test_the_quick_plan_has_samples_for_a_p99_of_the_radio_and_a_p90_of_the_camera(bundle: Bundle) -> None:
    assert QUICK.paced_s["iq"] * 100.0 >= MIN_SAMPLES[99]
    assert QUICK.paced_s["image"] * QUICK.camera_rate_hz >= MIN_SAMPLES[90]
    assert make_plan(bundle, ALL, QUICK).ticks > 20


def test_each_scenario_is_measured_where_it_makes_sense(bundle: Bundle) -> None:
    plan = make_plan(bundle, ALL, QUICK)
    where = {rig.name: plan.scenarios_of(rig) for rig in plan.rigs}
    assert where == {
        "iq": ("single", "paced", "offline", "overload", "ingest"),
        "image": ("single", "paced", "offline", "overload"),
        "image-shm": ("offline", "overload"),
        "both": ("multi", "paced"),
    }
    assert {path for rig in plan.rigs for path in plan.paths_of(rig, "paced")} == set(PATHS)


def test_pipelines_that_no_scenario_needs_are_not_started(bundle: Bundle) -> None:
    plan = make_plan(bundle, frozenset({"multi"}), full_lengths(3.0))
    assert [rig.name for rig in plan.rigs] == ["both"]
    assert plan.ticks == 2


def test_the_path_of_both_is_caused_by_the_camera_and_the_wide_radio_fills_its_rate(bundle: Bundle) -> None:
    plan = make_plan(bundle, ALL, QUICK, "shm", rehearses=True)
    rigs = {rig.name: rig for rig in plan.rigs}
    assert rigs["both"].names_of("both") == ("image", "iq")
    assert rigs["iq"].names_of("iq-wide") == ("iq-wide",)
    feeds = {feed.name: feed for rig in plan.rigs for feed in rig.feeds_in("/run/x")}
    assert feeds["iq-wide"].samples * feeds["iq-wide"].rate_hz == 6.55e6
    assert feeds["iq"].endpoint == feeds["iq-wide"].endpoint == "ipc:///run/x/iq"
    assert {feed.stream.transport for feed in feeds.values()} == {"shm"}
    assert all(feed.stream.rehearse and feed.bare_stream.rehearse for feed in feeds.values())


def test_the_sweep_sends_a_hundred_messages_a_second() -> None:
    assert samples_at(61.44) == 614_400


def test_messages_that_are_neither_received_nor_counted_as_lost_are_told() -> None:
    counts = StreamAccounting(
        received=5,
        processed=5,
        superseded=0,
        dropped_late=0,
        rejected={},
        in_flight=0,
        lost_transport=2,
        state="live",
    )
    assert dict(unaccounted({"iq": 7}, {"iq": counts})) == {}
    assert dict(unaccounted({"iq": 9}, {"iq": counts})) == {"iq": 2}


def test_a_model_without_a_camera_cannot_be_benchmarked(bundle: Bundle) -> None:
    second = msgspec.structs.replace(IQ, name="other")
    spec = msgspec.structs.replace(bundle.spec, modalities=(IQ, second))
    roles = ("iq", "other", "fusion")
    graphs = [
        msgspec.structs.replace(graph, role=role) for graph, role in zip(bundle.manifest.graphs, roles, strict=True)
    ]
    manifest = msgspec.structs.replace(bundle.manifest, spec=spec, graphs=tuple(graphs))
    radio_only = dataclasses.replace(bundle, manifest=manifest)
    with pytest.raises(ConfigError, match="image"):
        make_plan(radio_only, ALL, full_lengths(1.0))


def test_scenarios_are_named_with_commas_between() -> None:
    assert parse_scenarios("single, overload") == {"single", "overload"}


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf"])
def test_a_length_that_is_none_is_refused(seconds: str, capsys) -> None:
    assert main(["bench", "--seconds-per-path", seconds]) == 2
    assert "expected above 0" in capsys.readouterr().err


@pytest.mark.parametrize("names", ["fly", "single,", "paced,Single", ""])
def test_an_unknown_scenario_is_refused_with_those_there_are(names: str, capsys) -> None:
    assert main(["bench", "--scenario", names]) == 2
    assert "choose of single, multi, paced" in capsys.readouterr().err


def test_options_of_plans_without_plans_are_refused(capsys) -> None:
    assert main(["bench", "--plan-options", "plan.yaml"]) == 2
    assert "--plans" in capsys.readouterr().err


def test_counts_of_a_while_are_the_difference_of_two_moments() -> None:
    before = ledger(received=9, processed=7, rejected={"frozen": 1, "bad_crc": 1})
    now = ledger(received=19, processed=15, rejected={"frozen": 3, "bad_crc": 1})
    assert _since(before, now) == ledger(received=10, processed=8, rejected={"frozen": 2})


def ledger(received: int, processed: int, rejected: dict[str, int]) -> StreamAccounting:
    return StreamAccounting(
        received=received,
        processed=processed,
        superseded=0,
        dropped_late=0,
        rejected=rejected,
        in_flight=0,
        lost_transport=0,
        state="live",
    )


def test_plans_fly_tensorrt_and_nothing_less(bundle: Bundle, tmp_path) -> None:
    feeds = (feed_of(tmp_path, "raw"), feed_of(tmp_path))
    without = flight_config(Aircraft(bundle=bundle, precision="fp32"), feeds, tmp_path)
    assert (without.pipeline.backend, without.plans, without.pipeline.precision) == ("onnxruntime", None, "fp32")
    aircraft = Aircraft(bundle=bundle, plans=tmp_path, plan_options=tmp_path / "plan.yaml")
    planned = flight_config(aircraft, feeds, tmp_path)
    assert (planned.pipeline.backend, planned.plans) == ("tensorrt", str(tmp_path))
    assert planned.plan_options == str(tmp_path / "plan.yaml")


def test_of_several_kinds_of_messages_to_a_stream_the_first_says_its_rate(bundle: Bundle, tmp_path) -> None:
    first, second = feed_of(tmp_path), dataclasses.replace(feed_of(tmp_path), name="two", rate_hz=7.0)
    config = flight_config(Aircraft(bundle=bundle), (first, second), tmp_path)
    assert {name: stream.rate_hz for name, stream in config.streams.items()} == {"iq": 200.0}


def test_energy_is_shared_by_the_results_and_unknown_where_a_turn_has_none() -> None:
    order, answers = Open(names=("iq",), seconds=1.0), [None] * 4
    turns = [
        Turn(order=order, sent=Sent(), answers=answers, ended_ns=0, cpu_s=0.0, joules=joules) for joules in (2.0, 6.0)
    ]
    assert _joules_per_result(turns) == 1.0
    dark = dataclasses.replace(turns[0], joules=None)
    assert _joules_per_result([*turns, dark]) is None
