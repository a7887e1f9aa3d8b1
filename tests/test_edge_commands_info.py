import json
from pathlib import Path

import pytest
from recorded import PERIOD_NS, write_flight

from edge.cli import main
from edge.recording.writer import RecordingWriter
from edge.transport.messages import PipelineStatus, RecorderStatus

WINDOWS = 40


def test_info_tells_streams_and_damage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "flight.mcap"
    write_flight(path, WINDOWS)
    assert main(["info", str(path), "--json"]) == 0
    out = capsys.readouterr().out
    told = json.loads(out.splitlines()[-1])
    radio = told["streams"]["radio"]
    assert (radio["kind"], radio["messages"], radio["rate_hz"], radio["missing"]) == ("iq", WINDOWS, 100.0, 0)
    assert told["duration_s"] == (WINDOWS - 1) * PERIOD_NS / 1e9
    assert "damage: none" in out


def test_info_tells_which_model_flew_in_which_precision(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "flight.mcap"
    with RecordingWriter(path, utc_offset_ns=0) as writer:
        for time_ns, precision in ((1, "fp32"), (2, "int8")):
            status = PipelineStatus(
                time_ns=time_ns, results=1, streams={}, model="site-4", bundle_sha256="", labels=("a", "b"),
                precisions={"iq": precision, "fusion": "fp32"},
            )  # fmt: skip
            writer.write_message(status, time_ns)
    assert main(["info", str(path), "--json"]) == 0
    out = capsys.readouterr().out
    assert "model: site-4, graphs: iq int8, fusion fp32" in out
    told = json.loads(out.splitlines()[-1])
    assert (told["model"], told["precisions"]) == ("site-4", {"iq": "int8", "fusion": "fp32"})


def test_info_of_a_recording_without_a_pipeline_names_no_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_flight(tmp_path / "flight.mcap", WINDOWS)
    assert main(["info", str(tmp_path / "flight.mcap"), "--json"]) == 0
    out = capsys.readouterr().out
    assert "model:" not in out
    told = json.loads(out.splitlines()[-1])
    assert (told["model"], told["precisions"]) == ("", {})


def test_info_tells_what_the_recorder_could_not_record(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with RecordingWriter(tmp_path / "flight.mcap", utc_offset_ns=0) as writer:
        for time_ns, pause in ((1, ""), (2, "1 MB free")):
            status = RecorderStatus(
                time_ns=time_ns, free_bytes=5, pause=pause, recorded={"radio": 9}, lost={"radio": 3, "camera": 1},
                refused={"radio": 2},
            )  # fmt: skip
            writer.write_message(status, time_ns)
    assert main(["info", str(tmp_path / "flight.mcap")]) == 0
    told = "recorder, until then: 4 messages lost on the way, 2 refused, ended because 1 MB free"
    assert told in capsys.readouterr().out


def test_info_tells_what_a_cut_recording_lost(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "flight.mcap"
    write_flight(path, WINDOWS)
    path.write_bytes(path.read_bytes()[: -WINDOWS * 20_000])
    assert main(["info", str(path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert told["damage"]["truncated"] is True
    assert 0 < told["streams"]["radio"]["messages"] < WINDOWS


def test_file_that_is_no_recording_is_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "flight.mcap"
    path.write_bytes(b"#!/bin/sh")
    assert main(["info", str(path)]) == 6
    error = capsys.readouterr().err
    assert "expected an MCAP recording" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("faults", ["camera:stuck@1s radio:off@2s+1s", ""])
def test_info_says_that_a_recording_is_a_test(tmp_path: Path, capsys: pytest.CaptureFixture[str], faults: str) -> None:
    with RecordingWriter(tmp_path / "flight.mcap", metadata={"injected_faults": faults}, utc_offset_ns=0) as writer:
        writer.write_message(RecorderStatus(time_ns=1, free_bytes=5, pause="", recorded={}, lost={}, refused={}), 1)
    assert main(["info", str(tmp_path / "flight.mcap"), "--json"]) == 0
    out = capsys.readouterr().out
    said = "A TEST: faults were injected into this flight: camera:stuck@1s, radio:off@2s+1s"
    assert (said in out) == bool(faults)
    assert json.loads(out.splitlines()[-1])["injected"] == faults.split()
