"""Exact and live replay of a recorded flight through the real pipeline."""

import json
from pathlib import Path
from types import SimpleNamespace

import msgspec
import numpy as np
import pytest

from edge.cli import main
from edge.operations.live_replay import LiveOptions, fly_live
from edge.operations.replays import ExactOptions, fly_exact
from edge.operations.report import write_report
from edge.recording.reader import open_recording
from edge.recording.replay import streams_of
from edge.recording.synthetic import START_NS, message_count, write_synthetic_flight
from edge.recording.writer import RecordingWriter
from edge.sources.synthetic import SiteGenerator, SyntheticFlight
from edge.transport.messages import TRUTH_HOLDS_NS, Kind, Truth
from edge.transport.truths import TruthTimeline
from edge.transport.wire import Reason, Stamp, check_payload, encode_array
from models.bundle import GraphEntry, open_bundle, shipped_bundle, write_bundle
from models.errors import ConfigError
from models.spec import ImageRecipe, IqRecipe, ModalitySpec, ModelSpec

SECONDS = 4.0
FP32 = {"iq": "fp32", "image": "fp32", "fusion": "fp32"}


@pytest.fixture(scope="module")
def flight(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("flight") / "flight.mcap"
    counted: list[int] = []
    synthetic = SyntheticFlight(7, 1.0)
    write_synthetic_flight(path, synthetic, SECONDS, counted.append)
    assert counted[-1] == message_count(synthetic, SECONDS)
    return path


def last_line(text: str) -> dict:
    return json.loads(text.strip().splitlines()[-1])


def test_synthetic_flight_holds_all_streams_and_the_truth(flight):
    streams = open_recording(flight).streams
    assert {name: summary.count for name, summary in streams.items()} == {
        "radio": 400,
        "camera": 120,
        "pose": 40,
        "truth": 4,
    }


def test_truth_is_told_at_each_change_and_each_second_after_it(tmp_path):
    flight, seconds = SyntheticFlight(7, 2.4, radio_rate_hz=1.0, camera_rate_hz=1.0), 6.0
    write_synthetic_flight(tmp_path / "flight.mcap", flight, seconds, lambda _: None)
    recording = open_recording(tmp_path / "flight.mcap")
    truths = [event.message for event in recording.events() if event.stream == "truth"]
    told_s = [(truth.capture_ns - START_NS) / 1e9 for truth in truths]
    assert told_s == [0.0, 1.0, 2.0, 2.4, 3.4, 4.4, 4.8, 5.8]
    assert [truth.class_id for truth in truths] == [flight.class_at(t_s) for t_s in told_s]
    assert message_count(flight, seconds) == recording.event_count


def test_changed_byte_of_any_synthetic_message_is_noticed(flight):
    sensed = [event for event in open_recording(flight).events() if event.header is not None]
    assert {check_payload(event.header, bytes([event.payload[0] ^ 1]) + event.payload[1:]) for event in sensed} == {
        Reason.CRC
    }


def test_lost_truths_leave_a_gap_instead_of_the_old_one():
    timeline = TruthTimeline(
        [Truth(capture_ns=0, class_id=3, label="lake"), Truth(capture_ns=9 * 10**9, class_id=1, label="x")]
    )
    held = [timeline.at(at_ns) for at_ns in (0, TRUTH_HOLDS_NS, TRUTH_HOLDS_NS + 1, 9 * 10**9 - 1, 9 * 10**9)]
    assert [truth and truth.class_id for truth in held] == [3, 3, None, None, 1]


def test_exact_replay_gives_the_same_bytes_twice(flight, tmp_path, capsys):
    outputs, hashes = [], []
    for name in ("first.jsonl", "second.jsonl"):
        arguments = ["--bundle", str(shipped_bundle()), "--exact", "--json", "--results", str(tmp_path / name)]
        assert main(["replay", str(flight), *arguments]) == 0
        hashes.append(last_line(capsys.readouterr().out)["results_sha256"])
        outputs.append((tmp_path / name).read_bytes())
    assert outputs[0] == outputs[1]
    assert hashes[0] == hashes[1]
    assert len(outputs[0].splitlines()) >= 115


def test_exact_replay_reports_accuracy_speed_and_balanced_accounting(flight, capsys):
    assert main(["replay", str(flight), "--bundle", str(shipped_bundle()), "--exact", "--json"]) == 0
    summary = last_line(capsys.readouterr().out)
    assert summary["accuracy"] > 0.5
    assert {"accuracy_iq", "accuracy_image", "realtime_factor", "results_sha256"} <= set(summary)
    for stream in summary["accounting"].values():
        assert stream["balanced"]
        fates = ("processed", "superseded", "dropped_late", "shed", "gathered", "rejected", "in_flight")
        assert stream["received"] == sum(stream[fate] for fate in fates)
    assert summary["accounting"]["radio"]["received"] == 400
    assert summary["accounting"]["camera"]["received"] == 120


def test_live_replay_agrees_with_exact_replay(flight):
    """Pairs can differ by a window where the processes' timing does; the answers must not, but for a few."""
    recording, bundle = open_recording(flight), open_bundle(shipped_bundle())
    exact = fly_exact(recording, bundle)
    live = fly_live(recording, bundle, LiveOptions(rate=1.0))
    assert live.is_balanced
    assert live.streams["camera"].received == 120
    answered = [answer for answer in live.answers if answer.has_answer]
    assert len(answered) >= 0.9 * len(exact.answers)
    assert abs(live.summary()["accuracy"] - exact.summary()["accuracy"]) <= 0.1
    assert live.summary()["precisions"] == exact.summary()["precisions"] == FP32


def test_a_precision_that_the_bundle_has_not_is_refused_in_either_mode(flight, capsys):
    arguments = ["replay", str(flight), "--bundle", str(shipped_bundle()), "--precision", "mixed"]
    assert main([*arguments, "--exact"]) == 3
    assert "no graph in mixed for " in capsys.readouterr().err
    assert main([*arguments, "--rate", "0"]) == 3


@pytest.mark.slow
def test_live_and_exact_replay_fly_the_precision_that_is_asked_for(flight, tmp_path):
    """The shipped graphs stand in for rounded ones: they keep the bounds."""
    shipped = open_bundle(shipped_bundle())
    entry = GraphEntry(role="iq", precision="int8", file="onnx/iq.int8.onnx")
    manifest = msgspec.structs.replace(shipped.manifest, graphs=(*shipped.manifest.graphs, entry))
    contents = {**shipped.contents, entry.file: shipped.graph("iq")}
    bundle = open_bundle(write_bundle(tmp_path, manifest, contents))
    recording = open_recording(flight)
    expected = {**FP32, "iq": "int8"}
    assert fly_exact(recording, bundle).summary()["precisions"] == FP32
    exact = fly_exact(recording, bundle, ExactOptions(precision="int8"))
    assert exact.summary()["precisions"] == expected
    write_report(tmp_path / "report.html", exact)
    assert "Graphs: iq int8, image fp32, fusion fp32" in (tmp_path / "report.html").read_text()
    live = fly_live(recording, bundle, LiveOptions(rate=0, precision="int8"))
    assert live.summary()["precisions"] == expected


def test_live_replay_as_fast_as_it_goes_loses_nothing(flight):
    flown = fly_live(open_recording(flight), open_bundle(shipped_bundle()), LiveOptions(rate=0))
    assert flown.is_balanced
    assert {name: stream.received for name, stream in flown.streams.items()} == {"radio": 400, "camera": 120}
    assert all(stream.lost_transport == 0 for stream in flown.streams.values())


def test_report_and_mavlink_belong_to_their_modes(flight, tmp_path, capsys):
    arguments = ["--bundle", str(shipped_bundle()), "--exact"]
    assert main(["replay", str(flight), *arguments, "--report", str(tmp_path / "report.html")]) == 0
    assert "<html" in (tmp_path / "report.html").read_text()
    assert main(["replay", str(flight), *arguments, "--mavlink", "udpout:127.0.0.1:14550"]) == 2
    assert "--exact" in capsys.readouterr().err


def test_truncated_recording_is_flown_as_far_as_it_goes(flight, tmp_path, capsys):
    cut = tmp_path / "cut.mcap"
    data = flight.read_bytes()
    cut.write_bytes(data[: len(data) // 2])
    assert main(["replay", str(cut), "--bundle", str(shipped_bundle()), "--exact", "--json"]) == 0
    summary = last_line(capsys.readouterr().out)
    assert "no end" in summary["damage"]
    assert 100 < summary["accounting"]["radio"]["received"] < 400


@pytest.mark.parametrize(
    ("recording", "bundle", "code", "text"),
    [
        ("absent.mcap", None, 6, "absent.mcap"),
        ("garbage.mcap", None, 6, "garbage.mcap"),
        (None, "absent.uavb", 3, "absent.uavb"),
    ],
)
def test_bad_files_end_in_one_line_and_their_exit_code(flight, tmp_path, capsys, recording, bundle, code, text):
    (tmp_path / "garbage.mcap").write_bytes(b"garbage" * 100)
    recording_path = tmp_path / recording if recording else flight
    bundle_path = tmp_path / bundle if bundle else shipped_bundle()
    assert main(["replay", str(recording_path), "--bundle", str(bundle_path), "--exact"]) == code
    error = capsys.readouterr().err
    assert text in error
    assert len(error.splitlines()) == 1


def test_recording_whose_streams_fit_no_modality_is_refused(flight):
    radios = tuple(
        ModalitySpec(name=name, recipe=IqRecipe(window_samples=64, sample_rate_hz=1), feature_size=4) for name in "ab"
    )
    image = ModalitySpec(name="image", recipe=ImageRecipe(height_px=64, width_px=64), feature_size=4)
    spec = ModelSpec(classes=("x", "y"), modalities=(*radios, image))
    with pytest.raises(ConfigError, match=r"stream radio \(iq\) fits the modalities \['a', 'b'\]"):
        streams_of(open_recording(flight), spec, Path("/tmp"))


def test_stream_named_like_one_of_several_fitting_modalities_feeds_it(flight):
    radios = tuple(
        ModalitySpec(name=name, recipe=IqRecipe(window_samples=64, sample_rate_hz=1), feature_size=4)
        for name in ("radio", "radar")
    )
    image = ModalitySpec(name="image", recipe=ImageRecipe(height_px=64, width_px=64), feature_size=4)
    spec = ModelSpec(classes=("x", "y"), modalities=(*radios, image))
    streams = streams_of(open_recording(flight), spec, Path("/tmp"))
    assert {name: stream.modality for name, stream in streams.items()} == {"radio": "radio", "camera": "image"}


def test_names_of_recorded_streams_do_not_say_where_sockets_are(tmp_path):
    names = ["../x", "results", "pose", "x" * 150]
    recording = SimpleNamespace(
        path="flight.mcap", streams={name: SimpleNamespace(modality="iq", rate_hz=1.0) for name in names}
    )
    radio = ModalitySpec(name="radio", recipe=IqRecipe(window_samples=64, sample_rate_hz=1), feature_size=4)
    image = ModalitySpec(name="image", recipe=ImageRecipe(height_px=64, width_px=64), feature_size=4)
    streams = streams_of(recording, ModelSpec(classes=("x", "y"), modalities=(radio, image)), tmp_path)
    assert [streams[name].endpoint for name in names] == [f"ipc://{tmp_path}/stream-{n}" for n in range(4)]


def test_a_stream_of_any_recorded_rate_can_be_flown(tmp_path):
    rates_hz = {"burst": 20_000.0, "two": 3e8, "lone": 0.0}
    recording = SimpleNamespace(
        path="flight.mcap",
        streams={name: SimpleNamespace(modality="iq", rate_hz=rate_hz) for name, rate_hz in rates_hz.items()},
    )
    radio = ModalitySpec(name="radio", recipe=IqRecipe(window_samples=64, sample_rate_hz=1), feature_size=4)
    image = ModalitySpec(name="image", recipe=ImageRecipe(height_px=64, width_px=64), feature_size=4)
    streams = streams_of(recording, ModelSpec(classes=("x", "y"), modalities=(radio, image)), tmp_path)
    assert {name: stream.rate_hz for name, stream in streams.items()} == {"burst": 1e4, "two": 1e4, "lone": 0.1}


def test_a_gap_of_days_in_a_recording_is_not_lived_through(tmp_path):
    path = tmp_path / "gap.mcap"
    generator, rng = SiteGenerator(), np.random.default_rng(1)
    days_ns = 10**6 * 10**9
    with RecordingWriter(path, utc_offset_ns=0) as writer:
        for n, time_ns in enumerate((10**9, 2 * 10**9, days_ns)):
            stamp = Stamp(1, 1, n, time_ns, time_ns, 0, 1_000_000.0)
            writer.write_parts("radio", encode_array(Kind.IQ, stamp, generator.radio(0, rng)), time_ns)
    flown = fly_exact(open_recording(path), open_bundle(shipped_bundle()))
    assert [answer.has_answer for answer in flown.answers].count(True) == 3
    silent = [answer for answer in flown.answers if not answer.has_answer]
    assert 50 <= len(silent) <= 70
    assert all(answer.answer_ns >= days_ns - 62 * 10**9 for answer in silent[2:])
