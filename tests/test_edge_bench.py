"""The benchmark: its statistics, its made-up messages, and a short one from end to end in real processes."""

import dataclasses
import io
import json
import os
import time
from typing import Any

import msgspec
import numpy as np
import pytest
from rich.console import Console

from edge.cli import main
from edge.operations import bench
from edge.operations.bench import QUICK, Times, full_times, plan_paths
from edge.operations.bench_feed import FRAME_PX, Feed, Feeder, payloads
from edge.operations.bench_machine import NoiseMeter, describe_machine
from edge.operations.bench_statistics import MIN_SAMPLES, missing_samples, percentile
from edge.operations.bench_text import print_bench
from edge.pipeline.gate import Gate
from edge.transport.messages import Kind
from edge.transport.sockets import Subscriber
from edge.transport.wire import decode_message
from models.bundle import Bundle, open_bundle, shipped_bundle
from models.errors import ConfigError, LinkError
from models.spec import ImageRecipe, IqRecipe, ModalitySpec

SHORT = Times(image_s=0.7, iq_s=0.7, both_s=0.3, camera_rate_hz=100.0)
LONGER = (1.0, 2.5, 5.0)
"""A busy machine may answer too few messages for a median: then a longer try, still too short for a p99."""
START_TIMEOUT_S = 20.0
IMAGE = ModalitySpec(name="image", recipe=ImageRecipe(height_px=32, width_px=32), feature_size=4)
IQ = ModalitySpec(name="iq", recipe=IqRecipe(window_samples=1024, sample_rate_hz=1_000_000), feature_size=4)


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return open_bundle(shipped_bundle())


def await_idle(feeder: Feeder) -> None:
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while feeder.is_busy and time.monotonic() < deadline_s:
        time.sleep(0.01)
    assert not feeder.is_busy


@pytest.mark.parametrize("rank", sorted(MIN_SAMPLES))
def test_a_percentile_is_stated_only_with_samples_enough_for_it(rank: int) -> None:
    least = MIN_SAMPLES[rank]
    assert percentile([1.0] * (least - 1), rank) is None
    assert percentile([1.0] * least, rank) == 1.0


def test_percentiles_are_those_of_the_samples() -> None:
    assert [percentile(range(1001), rank) for rank in (50, 90, 99)] == [500.0, 900.0, 990.0]


def test_percentiles_that_lack_samples_are_named_with_what_they_need() -> None:
    assert missing_samples(64) == {"p99": 662}
    assert missing_samples(662) == {}


def test_radio_messages_hold_every_sample_and_pass_the_gate() -> None:
    windows, gate = payloads(IQ.recipe, 100.0), Gate()
    assert 100 * len(windows[0]) == IQ.recipe.sample_rate_hz
    assert windows[0].dtype == np.int16
    assert [gate.check_iq(window) for window in windows] == [None] * len(windows)


def test_frames_are_of_720_lines_and_pass_the_gate() -> None:
    frames, gate = payloads(IMAGE.recipe, 30.0), Gate()
    assert frames[0].shape == (*FRAME_PX, 3)
    assert [gate.check_frame(frame) for frame in frames] == [None] * len(frames)


def test_a_radio_message_holds_at_least_a_window() -> None:
    recipe = IqRecipe(window_samples=8192, sample_rate_hz=250_000)
    assert len(payloads(recipe, 100.0)[0]) == recipe.window_samples


def test_a_feeder_sends_what_it_is_told_to_the_endpoint_it_is_told(tmp_path) -> None:
    feed = Feed(name="radio", modality=IQ, rate_hz=200.0, folder=str(tmp_path))
    with Feeder(feed) as feeder, Subscriber(feed.stream.endpoint) as flown, Subscriber(feed.bare_endpoint) as bare:
        await_idle(feeder)
        feeder.start(0.02, bare=True)
        await_idle(feeder)
        feeder.start(0.01)
        await_idle(feeder)
        counts = [sum(1 for _ in iter(lambda s=s: s.receive(200), None)) for s in (flown, bare)]
    assert counts == [2, 4]


def test_messages_say_that_they_were_captured_before_they_were_sent(tmp_path) -> None:
    feed = Feed(name="radio", modality=IQ, rate_hz=200.0, folder=str(tmp_path))
    with Feeder(feed) as feeder, Subscriber(feed.stream.endpoint) as subscriber:
        await_idle(feeder)
        feeder.start(0.005)
        header, payload = decode_message(subscriber.receive(10_000))
    assert header.kind == Kind.IQ
    assert len(payload) == 5000 * 4
    assert header.send_ns - header.capture_ns == pytest.approx(5_000_000, abs=5_000_000)


def test_a_feeder_whose_process_dies_is_named(tmp_path) -> None:
    feed = Feed(name="radio", modality=IQ, rate_hz=200.0, folder=str(tmp_path))
    with Feeder(feed) as feeder:
        await_idle(feeder)
        feeder.start(60.0)
        os.kill(feeder.process_id, 9)
        with pytest.raises(LinkError, match=r"radio.*died"):
            await_idle(feeder)


def test_own_work_is_not_called_noise() -> None:
    knows_us, does_not = NoiseMeter(), NoiseMeter()
    assert knows_us.other_percent is None
    knows_us.start([os.getpid()])
    does_not.start([])
    end_s = time.process_time() + 0.2
    while time.process_time() < end_s:
        np.linalg.norm(np.ones(1000))
    knows_us.stop([os.getpid()])
    does_not.stop([])
    assert 0.0 <= knows_us.other_percent < does_not.other_percent <= 100.0


def test_the_machine_is_named() -> None:
    machine = describe_machine()
    assert machine["cpu"]
    assert machine["cores"] >= 1


def test_the_quick_plan_has_samples_for_a_p99_of_each_sensor_alone(bundle: Bundle) -> None:
    image, iq, both = plan_paths(bundle, QUICK)
    for plan in (image, iq):
        assert plan.seconds * plan.streams[0][1] >= MIN_SAMPLES[99]
    assert [modality.name for modality, _ in both.streams] == [image.streams[0][0].name, iq.streams[0][0].name]


def test_a_model_without_a_camera_cannot_be_benchmarked(bundle: Bundle) -> None:
    second = msgspec.structs.replace(IQ, name="other")
    spec = msgspec.structs.replace(bundle.spec, modalities=(IQ, second))
    roles = ("iq", "other", "fusion")
    graphs = [
        msgspec.structs.replace(graph, role=role) for graph, role in zip(bundle.manifest.graphs, roles, strict=True)
    ]
    manifest = msgspec.structs.replace(bundle.manifest, spec=spec, graphs=tuple(graphs))
    radio_only = Bundle(path=bundle.path, manifest=manifest, sha256=bundle.sha256, contents=bundle.contents)
    with pytest.raises(ConfigError, match="image"):
        plan_paths(radio_only, full_times(1.0))


@pytest.mark.parametrize("seconds", ["0", "-1", "nan"])
def test_a_length_that_is_none_is_refused(seconds: str, capsys) -> None:
    assert main(["bench", "--seconds-per-path", seconds]) == 2
    assert "expected above 0" in capsys.readouterr().err


@pytest.fixture(scope="module")
def figures() -> Any:
    """The last line of a benchmark that is as short as can be."""
    for factor in LONGER:
        benched = bench_once(factor)
        alone = [benched["paths"][name] for name in ("image", "iq")]
        if all(path[key] is not None for path in alone for key in ("p50_ms", "floor_ms", "hot_floor_ms")):
            break
    return benched


def bench_once(factor: float) -> Any:
    longer = dataclasses.replace(SHORT, image_s=factor * SHORT.image_s, iq_s=factor * SHORT.iq_s)
    patch, out = pytest.MonkeyPatch(), io.StringIO()
    with patch.context() as patched:
        patched.setattr(bench, "QUICK", longer)
        patched.setattr(bench, "CAMERA_RATE_HZ", SHORT.camera_rate_hz)
        patched.setattr("sys.stdout", out)
        assert main(["bench", "--quick", "--json"]) == 0
    return json.loads(out.getvalue().strip().splitlines()[-1])


def test_each_path_has_its_latency_its_stages_and_too_few_samples_for_a_p99(figures: Any) -> None:
    assert set(figures["paths"]) == {"image", "iq", "both"}
    for name, path in figures["paths"].items():
        assert path["p99_ms"] is None, name
        assert path["too_few_for"]["p99"] == 662
    for name in ("image", "iq"):
        path = figures["paths"][name]
        assert path["samples"] > 0
        assert path["p50_ms"] is not None
        assert set(path["stages_ms"]) == {"transport", "queue", "preprocess", "infer", "fuse"}


def test_ratios_are_those_of_the_latency_to_its_floors(figures: Any) -> None:
    for name in ("image", "iq"):
        path = figures["paths"][name]
        assert path["ratio"] == pytest.approx(path["p50_ms"] / path["floor_ms"], abs=1e-3)
        assert path["hot_ratio"] == pytest.approx(path["p50_ms"] / path["hot_floor_ms"], abs=1e-3)


def test_the_hot_floor_is_the_hand_over_and_each_computation_back_to_back(figures: Any) -> None:
    for name in ("image", "iq"):
        path = figures["paths"][name]
        assert set(path["floor_parts_ms"]) == {"transport", "preprocess", "infer", "fuse"}
        expected_ms = path["floor_parts_ms"]["transport"] + sum(path["hot_parts_ms"].values())
        assert path["hot_floor_ms"] == pytest.approx(expected_ms, abs=1e-3)


def test_every_message_of_a_benchmark_is_accounted_for(figures: Any) -> None:
    streams = [stream for path in figures["accounting"].values() for stream in path.values()]
    assert len(streams) == 4
    assert figures["precisions"] == {"iq": "fp32", "image": "fp32", "fusion": "fp32"}
    assert all(stream["balanced"] and stream["received"] > 0 and not stream["rejected"] for stream in streams)


def test_the_table_shows_figures_and_what_is_missing(figures: Any) -> None:
    text = io.StringIO()
    print_bench(figures, Console(file=text, width=160))
    assert f"{figures['paths']['image']['p50_ms']:.3f}" in text.getvalue()
    assert "too few for a p99, which needs 662" in text.getvalue()
    assert "every message is accounted for" in text.getvalue()
    assert "graphs: iq fp32, image fp32, fusion fp32" in text.getvalue()
