"""A report held against an older one: what counts as worse, and what is not compared."""

import io
from typing import Any

import msgspec
import pytest
from benched import handover, ingest, latency, overload, report
from rich.console import Console

from edge.bench.baseline import Verdict, compare_reports, figures, read_baseline
from edge.bench.percentiles import spread
from edge.bench.result import Contender, Machine, Ratio, Report
from edge.bench.text import print_verdict
from edge.cli import main
from models.errors import InputError

PACED_TAIL = "image paced: p99 over p50 of all due"
OTHER = Machine(cpu="y", cores=2, kernel="6", arch="x86_64", python="3.11")


def worse(old: Report, new: Report) -> list[str]:
    return [finding.name for finding in compare_reports(old, new).regressions]


def test_a_report_is_no_worse_than_itself() -> None:
    verdict = compare_reports(report(), report())
    assert (verdict.regressions, verdict.missing, verdict.times_left_out) == ((), (), False)
    assert len(verdict.findings) == len(list(figures(report())))


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"latencies": (latency(ratio=Ratio(value=1.4, low=1.3, high=1.5)),)}, "image paced: ratio to the floor"),
        ({"latencies": (latency(from_schedule=spread([2.3] * 900 + [9.0] * 100)),)}, PACED_TAIL),
        ({"latencies": (latency(from_send=spread([3.0] * 1000)),)}, "image paced: p50, ms"),
        ({"latencies": (latency(fused_share=0.8),)}, "image paced: share fused"),
        ({"latencies": (latency(fused_share=0.0),)}, "image paced: share fused"),
        ({"latencies": (latency(cpu_ms_per_result=1.3),)}, "image paced: CPU ms a result"),
        ({"overloads": (overload(throughput_share=0.8),)}, "image overload x 3: share of the maximum"),
        ({"overloads": (overload(age_share=1.3),)}, "image overload x 3: age over its limit"),
        ({"overloads": (overload(rss_end_mib=90.0),)}, "image overload x 3: growth of memory"),
        ({"overloads": (overload(is_exact=False),)}, "image overload x 3: inexact"),
        ({"ingest": ingest(30.72)}, "ingest: peak MS/s"),
        ({"ingest": ingest(None)}, "ingest: peak MS/s"),
        ({"handover": handover(3.0)}, "hand-over: socket over shm"),
        ({"unaccounted": {"iq/iq": -1}}, "messages unaccounted for"),
    ],
)
def test_what_has_become_worse_is_named(changes: dict[str, Any], name: str) -> None:
    assert worse(report(), report(**changes)) == [name]


def test_a_contender_that_lost_its_lead_is_named() -> None:
    contest = report().contests[0]
    slower = Contender(name="onnxruntime:int8", latency=spread([1.0] * 10), ratio=Ratio(value=0.7, low=0.65, high=0.8))
    changed = msgspec.structs.replace(contest, contenders=(contest.contenders[0], slower))
    assert worse(report(), report(contests=(changed,))) == ["iq inference: onnxruntime:int8"]


@pytest.mark.parametrize(
    "changes",
    [
        {"latencies": (latency(ratio=Ratio(value=1.25, low=1.21, high=1.3)),)},
        {"latencies": (latency(from_send=spread([2.6] * 1000)),)},
        {"overloads": (overload(throughput_share=0.87),)},
        {"overloads": (overload(throughput_share=1.5, age_share=0.1),)},
        {"ingest": ingest(122.88)},
    ],
)
def test_what_is_within_the_tolerance_or_better_is_not_called_worse(changes: dict[str, Any]) -> None:
    assert worse(report(), report(**changes)) == []


def test_a_ratio_whose_blocks_reach_the_old_ones_is_noise() -> None:
    noisy = latency(ratio=Ratio(value=1.4, low=1.19, high=1.9))
    assert worse(report(), report(latencies=(noisy,))) == []


def test_times_of_another_machine_are_not_compared_and_ratios_are() -> None:
    slow = latency(from_send=spread([9.0] * 1000), ratio=Ratio(value=1.4, low=1.3, high=1.5))
    verdict = compare_reports(report(), report(machine=OTHER, latencies=(slow,)))
    assert verdict.times_left_out
    assert [finding.name for finding in verdict.regressions] == ["image paced: ratio to the floor"]


def test_what_was_not_measured_again_is_told_and_no_regression() -> None:
    verdict = compare_reports(report(), report(latencies=(), overloads=(), ingest=None, contests=(), core=None))
    assert verdict.regressions == ()
    assert "image paced: ratio to the floor" in verdict.missing


def test_a_percentile_that_lacks_samples_now_is_no_regression() -> None:
    few = latency(from_schedule=spread([2.3] * 100))
    verdict = compare_reports(report(), report(latencies=(few,)))
    assert verdict.regressions == ()
    assert verdict.missing == (PACED_TAIL,)


def test_percentiles_that_left_out_what_was_superseded_are_not_held_against_those_that_count_it() -> None:
    older = report(latencies=(latency(unanswered=None),))
    verdict = compare_reports(older, report(latencies=(latency(from_schedule=spread([2.3] * 900 + [9.0] * 100)),)))
    assert verdict.regressions == ()
    assert verdict.missing == ("image paced: p99 over p50",)


def shown(verdict: Verdict) -> str:
    text = io.StringIO()
    print_verdict(verdict, Console(file=text, width=200))
    return text.getvalue()


def test_people_are_told_what_is_worse_and_by_how_much() -> None:
    text = shown(compare_reports(report(), report(machine=OTHER, ingest=ingest(30.72), latencies=())))
    assert "worse: ingest: peak MS/s: 61.440 -> 30.720" in text
    assert "times not" in text
    assert "not measured this time: image paced: ratio to the floor" in text
    assert "1 worse" in text


@pytest.mark.parametrize("before", [b"", b"a table\nof many lines\n"])
def test_a_baseline_is_what_was_printed_or_its_last_line(before: bytes, tmp_path) -> None:
    path = tmp_path / "old.json"
    path.write_bytes(before + msgspec.json.encode(report()) + b"\n")
    assert read_baseline(path) == report()


def test_a_baseline_may_be_indented(tmp_path) -> None:
    path = tmp_path / "old.json"
    path.write_bytes(msgspec.json.format(msgspec.json.encode(report())))
    assert read_baseline(path) == report()


@pytest.mark.parametrize("content", [b"", b"no JSON", b'{"schema": "uav-edge-bench-0"}', b"{}"])
def test_a_baseline_that_is_none_is_refused_before_anything_is_measured(content: bytes, tmp_path, capsys) -> None:
    path = tmp_path / "old.json"
    path.write_bytes(content)
    assert main(["bench", "--quick", "--baseline", str(path)]) == InputError.exit_code
    assert "old.json: " in capsys.readouterr().err


def test_a_baseline_that_is_absent_is_refused(tmp_path, capsys) -> None:
    assert main(["bench", "--baseline", str(tmp_path / "none.json")]) == InputError.exit_code
    assert "cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize(("peak", "code"), [(61.44, 0), (245.76, 4)])
def test_a_regression_is_an_exit_code_of_its_own(peak: float, code: int, tmp_path, monkeypatch, capsys) -> None:
    path = tmp_path / "old.json"
    path.write_bytes(msgspec.json.encode(report(ingest=ingest(peak))))
    monkeypatch.setattr("edge.bench.bench.run_bench", lambda *_: (report(), []))
    assert main(["bench", "--quick", "--baseline", str(path)]) == code
    assert ("worse: ingest: peak" in capsys.readouterr().out) == (code == 4)
