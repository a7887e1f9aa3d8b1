"""A benchmark from end to end in real processes, as short as can be: every scenario, figures that belong together."""

import dataclasses
import io
import json
from typing import Any

import pytest
from rich.console import Console

from edge.bench import ingest, plan
from edge.bench.plan import PATHS, Lengths
from edge.bench.result import SCHEMA, Report, parse_report
from edge.bench.text import print_bench
from edge.cli import main
from models.errors import InputError

SHORT = Lengths(
    paced_s=dict.fromkeys(PATHS, 0.5),
    closed_s=0.2,
    offline_s=0.3,
    overload_s=0.3,
    ingest_s=0.1,
    handover_s=0.5,
    idle_s=0.2,
    contest_s=0.2,
    camera_rate_hz=100.0,
    overloads=(3.0,),
)
OVERLOADED = ["iq", "image", "jpeg", "image-shm"]
LONGER = (1.0, 3.0, 8.0)
"""A busy machine may answer too few messages for a median: then a longer try, still too short for a p99."""


def bench(*argv: str, lengths: Lengths = SHORT) -> tuple[int, list[str]]:
    """Return the exit code of a quick benchmark that is shorter still, and what it printed."""
    patch, out = pytest.MonkeyPatch(), io.StringIO()
    with patch.context() as patched:
        patched.setattr(plan, "QUICK", lengths)
        patched.setattr(ingest, "RATES_MS_PER_S", (2.4, 20.0))
        patched.setattr("sys.stdout", out)
        code = main(["bench", "--quick", *argv])
    return code, out.getvalue().strip().splitlines()


@pytest.fixture(scope="module")
def last_line() -> str:
    """The last line of a benchmark."""
    for factor in LONGER:
        longer = dataclasses.replace(SHORT, paced_s={path: factor * s for path, s in SHORT.paced_s.items()})
        code, lines = bench("--json", lengths=longer)
        assert code == 0
        found = parse_report(lines[-1].encode(), "here")
        paced = [one for one in found.latencies if one.scenario == "paced" and one.path in ("iq", "image")]
        if all(one.ratio is not None for one in paced):
            break
    return lines[-1]


@pytest.fixture(scope="module")
def report(last_line: str) -> Report:
    return parse_report(last_line.encode(), "here")


def of(report: Report, scenario: str) -> dict[str, Any]:
    return {one.path: one for one in report.latencies if one.scenario == scenario}


def test_every_path_is_measured_in_every_scenario_that_takes_it(report: Report) -> None:
    assert list(of(report, "single")) == ["iq", "image", "jpeg"]
    assert list(of(report, "multi")) == ["both"]
    assert list(of(report, "paced")) == ["iq", "iq-wide", "image", "jpeg", "both"]
    assert [one.path for one in report.offline] == OVERLOADED
    assert [(one.path, one.factor) for one in report.overloads] == [(path, 3.0) for path in OVERLOADED]


def test_each_path_has_its_latency_and_its_stages_and_the_pipeline_its_costs(report: Report) -> None:
    for one in report.latencies:
        assert one.from_send.samples > 0
        assert set(one.stages) == {"transport", "queue", "preprocess", "infer", "fuse"}
        assert one.cpu_ms_per_result > 0
    assert report.core.import_s > 0
    assert report.core.rss_mib > 10


def test_the_time_from_the_schedule_is_never_shorter_than_from_the_send(report: Report) -> None:
    one = of(report, "paced")["iq"]
    assert 0 <= one.from_schedule.samples - one.from_send.samples <= one.unanswered
    assert one.from_schedule.p50 >= one.from_send.p50
    assert all(one.from_schedule is None for one in of(report, "single").values())


def test_ratios_are_those_of_the_latency_to_its_floors(report: Report) -> None:
    for name in ("image", "iq"):
        one = of(report, "paced")[name]
        assert one.ratio.value == pytest.approx(one.from_send.p50 / one.floor.paced_ms, abs=2e-3)
        assert one.hot_ratio == pytest.approx(one.from_send.p50 / one.floor.hot_ms, abs=2e-3)
    assert of(report, "paced")["both"].floor is None


def test_the_hot_floor_is_the_hand_over_and_each_computation_back_to_back(report: Report) -> None:
    for name in ("image", "iq"):
        floor = of(report, "paced")[name].floor
        assert set(floor.paced_parts_ms) == {"transport", "preprocess", "infer", "fuse"}
        expected_ms = floor.paced_parts_ms["transport"] + sum(floor.hot_parts_ms.values())
        assert floor.hot_ms == pytest.approx(expected_ms, abs=1e-3)


def test_all_sensors_at_once_are_fused(report: Report) -> None:
    assert of(report, "multi")["both"].fused_share > 0
    assert of(report, "single")["iq"].fused_share == 0


def test_overload_is_more_than_the_pipeline_answers_and_every_message_is_accounted_for(report: Report) -> None:
    for one in report.overloads:
        assert one.is_exact
        assert one.sent == one.counts.received + one.counts.lost_transport
        assert one.counts.processed > 0
        assert one.age.samples > 0
        assert set(one.stages) == {"transport", "queue", "preprocess", "infer", "fuse"}
        assert one.rss_end_mib > 10


def test_the_sweep_takes_in_every_sample_of_a_slow_radio(report: Report) -> None:
    assert [point.wanted_ms_per_s for point in report.ingest.points] == [2.4, 20.0]
    slow = report.ingest.points[0]
    assert (slow.lost, slow.rejected, slow.message_bytes) == (0, 0, 96_000)
    assert slow.messages >= slow.inferred > 0


def test_frames_are_handed_over_both_ways_and_headers_cost_something(report: Report) -> None:
    assert report.handover.frame_bytes == 1920 * 1080 * 3
    assert report.handover.socket.samples > 0
    assert report.handover.shm.samples > 0
    assert set(report.handover.header_ns) == {"encode_array", "decode_header", "decode_message"}
    assert all(ns > 0 for ns in report.handover.header_ns.values())


def test_every_message_of_a_benchmark_is_accounted_for(report: Report) -> None:
    streams = [(rig, name) for rig, ledger in report.accounting.items() for name in ledger]
    assert streams == [("iq", "iq"), ("image", "image"), ("image-shm", "image"), ("both", "iq"), ("both", "image")]
    assert report.precisions == {"iq": "fp32", "image": "fp32", "fusion": "fp32"}
    assert report.backend == "onnxruntime"
    assert report.is_exact
    assert not report.unaccounted


def test_the_table_shows_figures_and_what_is_missing(report: Report) -> None:
    text = io.StringIO()
    print_bench(report, Console(file=text, width=160))
    shown = text.getvalue()
    assert f"{of(report, 'paced')['iq'].from_send.p50:.3f}" in shown
    assert "iq paced: not enough samples for a p99:" in shown
    assert "every message is accounted for" in shown
    assert "graphs: iq fp32, image fp32, fusion fp32 on onnxruntime" in shown


def test_a_report_of_another_schema_is_refused_with_the_remedy(last_line: str) -> None:
    other = json.dumps({**json.loads(last_line), "schema": "uav-edge-bench-0"}).encode()
    with pytest.raises(InputError, match=f"uav-edge-bench-0.*expected '{SCHEMA}'.*uav-edge bench --json"):
        parse_report(other, "old.json")


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b'{"schema": "uav-edge-bench-1"}', b"\xff"])
def test_what_is_no_report_is_refused(data: bytes) -> None:
    with pytest.raises(InputError, match=r"old\.json: .*make it anew"):
        parse_report(data, "old.json")


def test_the_schema_names_every_field_of_a_report(last_line: str) -> None:
    code, lines = bench("--schema")
    assert code == 0
    schema = json.loads(lines[-1])
    assert set(schema["$defs"]["Report"]["properties"]) == set(json.loads(last_line))


def test_frames_in_shared_memory_are_measured_alike_and_drawn(report: Report, last_line: str, tmp_path) -> None:
    old, page, trace = (tmp_path / name for name in ("old.json", "page.html", "trace.json"))
    old.write_text(last_line)
    outputs = ("--html", str(page), "--trace", str(trace), "--baseline", str(old))
    code, lines = bench("--scenario", "multi", "--transport", "shm", "--json", *outputs)
    shared = parse_report(lines[-1].encode(), "here")
    assert of(shared, "multi")["both"].from_send.samples > 0
    assert code in (0, 4), "a busy machine may be slower than it was"
    assert any("figures compared with the baseline" in line for line in lines)
    assert page.read_text().startswith("<!doctype html>")
    assert any(event["name"] == "infer" for event in json.loads(trace.read_text())["traceEvents"])
