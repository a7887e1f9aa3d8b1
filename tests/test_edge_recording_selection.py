"""What of a flight is recorded, and what the recorder says of itself."""

import threading
from pathlib import Path

import pytest
from recorders import PATIENCE_S, POSE, TRUTH, await_claim, config_of, recorder_at, window

from edge.recording.flight_files import FlightFiles
from edge.recording.reader import open_recording
from edge.recording.recorder import Recorder
from edge.transport.messages import Kind, RecorderStatus, pack, unpack
from edge.transport.sockets import Publisher, Subscriber
from edge.transport.wire import Stamp, encode_bytes


def test_recorder_tells_once_a_second_in_the_recording_how_it_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.recording.recorder.TEND_PERIOD_S", 0.02)
    with recorder_at(tmp_path) as (recorder, publishers, finish):
        for sequence in (0, 1, 5):
            publishers["radio"].send(window(sequence))
        publishers["radio"].send([b"garbage"])
        await_claim(lambda: recorder.tallies["radio"].refused.total() == 1)
        finish()
    told = [event.message for event in open_recording(tmp_path / "flight.mcap").events(["recorder"])]
    assert all(isinstance(message, RecorderStatus) for message in told)
    last = told[-1]
    assert isinstance(last, RecorderStatus)
    assert (last.recorded["radio"], last.lost["radio"], last.refused["radio"], last.pause) == (3, 3, 1, "")


def test_recorder_says_on_its_endpoint_how_it_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.recording.recorder.TEND_PERIOD_S", 0.02)
    endpoint = f"ipc://{tmp_path}/recorder"
    with recorder_at(tmp_path, status=endpoint) as (_, publishers, finish), Subscriber(endpoint) as heard:
        publishers["radio"].send(window(0))
        told: list[RecorderStatus] = []

        def hears_of_it() -> bool:
            parts = heard.receive(100)
            told.extend([unpack(parts[1], RecorderStatus)] if parts is not None else [])
            return bool(told) and told[-1].recorded["radio"] == 1

        await_claim(hears_of_it)
        finish()
    assert (told[-1].lost["radio"], told[-1].pause) == (0, "")


def test_topics_that_are_not_wanted_are_left_out_and_counted(tmp_path: Path) -> None:
    config = config_of(tmp_path, topics=("truth",))
    assert config.recording is not None
    stop = threading.Event()
    with FlightFiles(tmp_path / "flight.mcap", config.recording) as files, Publisher(config.results) as results:
        recorder = Recorder(config, files)
        thread = threading.Thread(target=recorder.run, args=(stop,))
        thread.start()
        assert results.wait_for_listeners(1, PATIENCE_S)
        results.send(encode_bytes(Kind.POSE, Stamp(0, 1, 0, 0, 0), pack(POSE)))
        results.send(encode_bytes(Kind.TRUTH, Stamp(0, 1, 1, 0, 0), pack(TRUTH)))
        await_claim(lambda: recorder.tallies["results"].recorded == 1)
        stop.set()
        thread.join()
    assert list(recorder.tallies) == ["results"]  # streams that are not wanted are not even heard
    assert recorder.tallies["results"].left_out == 1
    assert set(open_recording(tmp_path / "flight.mcap").streams) == {"truth", "recorder"}


def test_one_message_in_so_many_is_recorded_and_the_rest_is_not_missed(tmp_path: Path) -> None:
    with recorder_at(tmp_path, every={"radio": 4, "truth": 2}) as (recorder, publishers, finish):
        for sequence in [*range(10), *range(20, 32)]:
            publishers["radio"].send(window(sequence))
        for sequence in range(5):
            publishers["results"].send(encode_bytes(Kind.TRUTH, Stamp(0, 1, sequence, 0, 0), pack(TRUTH)))
        tallies = [recorder.tallies[name] for name in ("radio", "results")]
        await_claim(lambda: [tally.recorded + tally.left_out for tally in tallies] == [22, 5])
        finish()
    recording = open_recording(tmp_path / "flight.mcap")
    numbers = [event.header.sequence for event in recording.events(["radio"]) if event.header]
    assert numbers == [0, 4, 8, 20, 24, 28]
    assert recording.streams["radio"].missing == 2  # 12 and 16: never received, and told as lost
    assert tallies[0].lost == 10
    assert recording.streams["truth"].count == 3
