"""Exact replay of recordings: the same bytes in every run and in any number of threads, and the flight as it was."""

import itertools
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import exact_in_threads
import msgspec
import numpy as np
import pytest
from recorders import await_claim

from edge.backends.onnx import OnnxSession
from edge.cli import main
from edge.config import FlightConfig, PipelineConfig, RecordingConfig, StreamConfig
from edge.faults.fault import parse_fault
from edge.faults.injector import FaultPlan
from edge.operations.flown import Flown
from edge.operations.replays import ExactOptions, fly_exact
from edge.pipeline.live import LivePipeline
from edge.recording.deployed import deployment_of, limits_of, rates_of
from edge.recording.engine_cost import Costs, EngineCost
from edge.recording.flight_files import Attachment, Contents, FlightFiles
from edge.recording.reader import open_recording
from edge.recording.recorder import Recorder
from edge.recording.synthetic import write_synthetic_flight
from edge.recording.writer import RecordingWriter
from edge.sources.synthetic import SiteGenerator, SyntheticFlight
from edge.transport.messages import Inference, Kind, PipelineStatus, Trace, Truth
from edge.transport.sockets import BlockingPublisher
from edge.transport.wire import Stamp, encode_array
from models.bundle import open_bundle, shipped_bundle
from models.errors import ConfigError
from models.schema import dump_yaml

PATIENCE_S = 20.0
RADIOS, FRAMES = 60, 18
SLOW_S = 0.06
"""What an image takes in the slowed flight: two periods of the camera."""
MS = 1_000_000


@pytest.fixture(scope="module")
def flight(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("flight") / "flight.mcap"
    write_synthetic_flight(path, SyntheticFlight(7, 1.0), 1.5, lambda done: None)
    return path


def bytes_of(flown: Flown) -> bytes:
    """Return everything that came out, and what became of every message."""
    return msgspec.json.encode((list(flown.answers), flown.streams, flown.summary()))


def test_a_flight_gives_the_same_bytes_in_every_run_and_in_any_number_of_threads(flight):
    recording, bundle = open_recording(flight), open_bundle(shipped_bundle())
    runs = [bytes_of(fly_exact(recording, bundle, ExactOptions(threads=threads))) for threads in (1, 1, 1, 2, 2, 7)]
    assert len(set(runs)) == 1


def test_the_script_that_compares_runs_tells_those_that_differ(flight, monkeypatch, capsys):
    arguments = [str(flight), str(shipped_bundle()), "--seconds", "0.5", "--runs", "1"]
    assert exact_in_threads.main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line[:11] for line in lines] == ["1 thread(s)", "2 thread(s)", "2 runs: the"]
    numbers = itertools.count()
    monkeypatch.setattr(exact_in_threads, "digest", lambda flown: f"{next(numbers)}")
    assert exact_in_threads.main(arguments) == 1
    assert "DIFFERENT BYTES" in capsys.readouterr().out


def test_faults_and_overload_give_the_same_bytes_in_any_number_of_threads(flight):
    recording, bundle = open_recording(flight), open_bundle(shipped_bundle())
    faults = ("camera:garbage@0.3s+0.3s", "radio:stuck@0.5s+0.4s", "radio:delayed@1s", "clock:jump@0.8s+0.2s")
    plan = FaultPlan(faults=tuple(map(parse_fault, faults)), seed=3)
    cost = EngineCost(costs={"image": Costs((0,), (80 * MS,))}, otherwise_ns=12 * MS)
    flown = [fly_exact(recording, bundle, ExactOptions(plan=plan, cost=cost, threads=n)) for n in (1, 2)]
    assert bytes_of(flown[0]) == bytes_of(flown[1])
    assert flown[0].streams["camera"].superseded > 10
    assert sum(flown[0].streams["radio"].rejected.values()) > 10


def test_command_says_how_much_was_inferred_and_takes_cost_and_threads(flight, capsys):
    def summary(*options: str) -> dict:
        arguments = ["--bundle", str(shipped_bundle()), "--exact", "--json", *options]
        assert main(["replay", str(flight), *arguments]) == 0
        return msgspec.json.decode(capsys.readouterr().out.strip().splitlines()[-1])

    plain, threaded = summary(), summary("--threads", "2", "--engine-cost", "3")
    assert plain["results_sha256"] == threaded["results_sha256"]
    assert plain["inferred"] == {"messages": 150 + 45, "as_in_flight": 0}
    slow = summary("--engine-cost", "iq=1,image=100")
    assert slow["inferred"]["messages"] < 150 + 20
    assert slow["accounting"]["camera"]["superseded"] > 25


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--exact", "--engine-cost", "soon"], "expected recorded, milliseconds"),
        (["--exact", "--engine-cost", "radar=3"], "radar"),
        (["--exact", "--threads", "0"], "--threads is 0"),
        (["--threads", "2"], "add --exact"),
        (["--engine-cost", "3"], "add --exact"),
    ],
)
def test_costs_and_threads_that_make_no_sense_are_refused_in_one_line(flight, capsys, options, text):
    assert main(["replay", str(flight), "--bundle", str(shipped_bundle()), *options]) == ConfigError.exit_code
    error = capsys.readouterr().err
    assert text in error
    assert len(error.splitlines()) == 1


@contextmanager
def recorded_live(folder: Path) -> Iterator[dict[str, BlockingPublisher]]:
    """Fly sockets, a pipeline and a recorder, and end them in the order in which a flight ends."""
    streams = {
        "radio": StreamConfig(modality="iq", endpoint=f"ipc://{folder}/radio", rate_hz=100.0),
        "camera": StreamConfig(modality="image", endpoint=f"ipc://{folder}/camera", rate_hz=30.0),
    }
    wanted = RecordingConfig(directory=".", min_free_bytes=0)
    bundle = open_bundle(shipped_bundle())
    config = FlightConfig(
        bundle=str(bundle.path),
        streams=streams,
        results=f"ipc://{folder}/results",
        recording=wanted,
        pipeline=PipelineConfig(max_age_ms=250.0, trigger_order=("iq", "image")),
    )
    deployed = Attachment(name="flight.yaml", media_type="application/yaml", data=dump_yaml(config))
    pipeline, stop = LivePipeline(config, bundle), threading.Event()
    with FlightFiles(folder / "flight.mcap", wanted, Contents(attachments=(deployed,))) as files:
        recorder = Recorder(config, files)
        thread = threading.Thread(target=recorder.run, args=(stop,))
        thread.start()
        publishers = {name: BlockingPublisher(stream.endpoint) for name, stream in streams.items()}
        try:
            pipeline.start()
            await_claim(lambda: recorder.tallies["results"].recorded > 0)
            assert all(bound.wait_for_listeners(2, PATIENCE_S) for bound in publishers.values())
            yield publishers
            sent = {"radio": RADIOS, "camera": FRAMES}
            await_claim(lambda: {name: stream.received for name, stream in pipeline.status().streams.items()} == sent)
            await_claim(lambda: {name: recorder.tallies[name].recorded for name in sent} == sent)
            before = recorder.tallies["results"].recorded
            pipeline.stop()
            await_claim(lambda: recorder.tallies["results"].recorded >= before + 2)
        finally:
            stop.set()
            thread.join()
            pipeline.stop()
            for publisher in publishers.values():
                publisher.close()


def send_a_flight(publishers: dict[str, BlockingPublisher]) -> None:
    """Send radio at 100 Hz and frames at 30 Hz, or as fast as this machine comes to it."""
    generator, rng = SiteGenerator(), np.random.default_rng(0)
    contents = {
        "radio": [generator.radio(n % 4, rng) for n in range(RADIOS)],
        "camera": [generator.scene(n % 4, rng) for n in range(FRAMES)],
    }
    begin_s = time.monotonic()
    due = [(n / 100.0, "radio", n) for n in range(RADIOS)] + [(n / 30.0, "camera", n) for n in range(FRAMES)]
    for at_s, name, n in sorted(due):
        threading.Event().wait(max(begin_s + at_s - time.monotonic(), 0))
        now_ns = time.monotonic_ns()
        stamp = Stamp(1, 1, n, now_ns, now_ns, 0, 1_000_000.0 if name == "radio" else 0.0)
        publishers[name].send(encode_array(Kind.IQ if name == "radio" else Kind.FRAME, stamp, contents[name][n]))


@pytest.fixture(scope="module")
def slowed(tmp_path_factory) -> Path:
    """A flight whose camera branch was too slow, recorded with its trace."""
    folder = tmp_path_factory.mktemp("slowed")
    run = OnnxSession.run

    def slowly(session: OnnxSession) -> bool:
        if session.inputs.get("input") is not None and session.inputs["input"].ndim == 4:
            time.sleep(SLOW_S)
        return run(session)

    with pytest.MonkeyPatch.context() as patch, recorded_live(folder) as publishers:
        patch.setattr(OnnxSession, "run", slowly)
        send_a_flight(publishers)
    return (folder / "flight.mcap").rename(folder / "slowed.mcap")


def traces_of(path: Path) -> list[Trace]:
    return [event.message for event in open_recording(path).events({"trace"}) if isinstance(event.message, Trace)]


def test_what_was_superseded_in_flight_is_superseded_again(slowed):
    recording, bundle = open_recording(slowed), open_bundle(shipped_bundle())
    status = recording.last_message(Kind.STATUS)
    assert isinstance(status, PipelineStatus)
    inferred = sum(len(trace.inferences) for trace in traces_of(slowed))
    assert status.streams["camera"].superseded >= 3
    for threads in (1, 2):
        flown = fly_exact(recording, bundle, ExactOptions(threads=threads))
        assert flown.as_in_flight == flown.inferred == inferred
        for name, stream in status.streams.items():
            again = flown.streams[name]
            assert (again.received, again.processed) == (stream.received, stream.processed)
            assert again.superseded + again.dropped_late == stream.superseded + stream.dropped_late


def test_answers_of_a_flight_are_given_again_from_the_same_inputs(slowed):
    recording, bundle = open_recording(slowed), open_bundle(shipped_bundle())
    given = [event.message for event in recording.events({"classification"})]
    again = fly_exact(recording, bundle).answers
    inputs = [
        {tuple(one.capture_ns for one in answer.modalities) for answer in answers if answer.has_answer}
        for answers in (given, again)
    ]
    assert len(inputs[0] & inputs[1]) >= 0.8 * len(inputs[0] | inputs[1])


def test_without_its_trace_a_flight_goes_by_the_latencies_that_it_answered_with(slowed, tmp_path):
    recording, bundle = open_recording(slowed), open_bundle(shipped_bundle())
    untraced = tmp_path / "untraced.mcap"
    with RecordingWriter(untraced, utc_offset_ns=recording.utc_offset_ns) as writer:
        for stored in recording.stored(set(recording.streams) - {"trace"}):
            writer.write_stored(stored)
    flown = fly_exact(open_recording(untraced), bundle)
    status = recording.last_message(Kind.STATUS)
    assert isinstance(status, PipelineStatus)
    assert flown.as_in_flight == 0
    assert abs(flown.streams["camera"].processed - status.streams["camera"].processed) <= 4
    assert fly_exact(open_recording(untraced), bundle, ExactOptions(cost=EngineCost())).streams["camera"].superseded < 3


def test_a_flight_with_other_names_of_its_streams_is_followed(slowed):
    renamed = open_recording(slowed).renamed({"camera": "nose"}).renamed({"nose": "camera", "radio": "ear"})
    bundle = open_bundle(shipped_bundle())
    flown = fly_exact(open_recording(slowed), bundle)
    other = fly_exact(renamed, bundle)
    assert other.streams == {"camera": flown.streams["camera"], "ear": flown.streams["radio"]}
    assert other.as_in_flight == other.inferred == flown.inferred


def test_limits_and_rates_are_those_of_the_deployment_that_flew(slowed):
    recording = open_recording(slowed)
    deployment = deployment_of(recording)
    assert rates_of(deployment, recording.names) == {"radio": 100.0, "camera": 30.0}
    limits = limits_of(deployment, ("iq", "image"), "fp32")
    assert (limits.max_age_ms, limits.trigger_order, limits.precision) == (250.0, ("iq", "image"), "fp32")
    other = limits_of(deployment, ("iq", "image", "thermal"), "auto")
    assert (other.max_age_ms, other.trigger_order) == (250.0, ())
    assert (limits_of(None, ("iq",), "auto"), rates_of(None, recording.names)) == (PipelineConfig(), {})


def test_what_paced_the_answers_in_flight_paces_them_again(slowed):
    flown = fly_exact(open_recording(slowed), open_bundle(shipped_bundle()))
    answered = [answer for answer in flown.answers if answer.has_answer]
    assert len(answered) >= 0.8 * flown.streams["radio"].processed
    assert answered[-1].modalities[0].age_ms < 250.0


def test_a_trace_is_exported_with_a_line_for_each_inference(slowed, tmp_path):
    assert main(["recording", "export", str(slowed), str(tmp_path / "out"), "--topics", "trace"]) == 0
    lines = (tmp_path / "out" / "trace.csv").read_text().splitlines()
    assert lines[0] == "received_ns,utc,stream,epoch,sequence,arrived_ns,taken_ns,done_ns"
    assert len(lines) == 1 + sum(len(trace.inferences) for trace in traces_of(slowed))


def test_a_flight_that_was_put_on_another_clock_is_followed(slowed, tmp_path):
    """Merging with a recording of an earlier clock moves all times of the flight."""
    first, merged = tmp_path / "first.mcap", tmp_path / "merged.mcap"
    with RecordingWriter(first, utc_offset_ns=open_recording(slowed).utc_offset_ns - 3_000 * 10**9) as writer:
        writer.write_message(Truth(capture_ns=10**9, class_id=1, label="x"), 10**9)
    assert main(["recording", "merge", str(merged), str(first), str(slowed), "--clock-offset", "slowed=0.25"]) == 0
    bundle = open_bundle(shipped_bundle())
    moved, flown = (fly_exact(open_recording(path), bundle) for path in (merged, slowed))
    assert moved.as_in_flight == flown.as_in_flight == flown.inferred
    assert [answer.probs for answer in moved.answers if answer.has_answer] == [
        answer.probs for answer in flown.answers if answer.has_answer
    ]


def test_a_part_of_a_flight_is_followed_to_its_end_though_its_trace_came_later(slowed):
    recording, bundle = open_recording(slowed), open_bundle(shipped_bundle())
    radio = recording.streams["radio"]
    begin_ns, end_ns = (radio.first_ns + (radio.last_ns - radio.first_ns) * n // 4 for n in (1, 3))
    flown = fly_exact(recording.part(begin_ns, end_ns), bundle)
    within = [one for trace in traces_of(slowed) for one in trace.inferences if begin_ns < one.arrived_ns < end_ns]
    assert flown.as_in_flight == flown.inferred
    assert abs(flown.as_in_flight - len(within)) <= 12
    assert flown.is_balanced


def radio_flight(path: Path, times_ns: list[tuple[int, int]]) -> Path:
    """Write windows of a radio: (when received, when captured)."""
    generator, rng = SiteGenerator(), np.random.default_rng(1)
    with RecordingWriter(path, utc_offset_ns=0) as writer:
        for n, (log_ns, capture_ns) in enumerate(times_ns):
            stamp = Stamp(1, 1, n, capture_ns, capture_ns, 0, 1_000_000.0)
            writer.write_parts("radio", encode_array(Kind.IQ, stamp, generator.radio(n % 4, rng)), log_ns)
    return path


def test_captures_that_go_back_are_refused_and_counted_alike_in_any_number_of_threads(tmp_path):
    at_ns = [10**9 + n * 10 * MS for n in range(60)]
    captured_ns = [time_ns - (500 * MS if 20 <= n < 30 else 0) for n, time_ns in enumerate(at_ns)]
    path = radio_flight(tmp_path / "back.mcap", list(zip(at_ns, captured_ns, strict=True)))
    bundle = open_bundle(shipped_bundle())
    flown = [fly_exact(open_recording(path), bundle, ExactOptions(threads=n)) for n in (1, 2)]
    assert bytes_of(flown[0]) == bytes_of(flown[1])
    assert flown[0].streams["radio"].rejected == {"bad_time": 10}
    assert flown[0].is_balanced


def test_messages_that_were_recorded_out_of_order_are_flown_in_the_order_of_reception(tmp_path):
    at_ns = [10**9 + n * 10 * MS for n in range(40)]
    swapped = list(itertools.chain.from_iterable((b, a) for a, b in zip(at_ns[::2], at_ns[1::2], strict=True)))
    path = radio_flight(tmp_path / "swapped.mcap", [(time_ns, time_ns) for time_ns in swapped])
    flown = fly_exact(open_recording(path), open_bundle(shipped_bundle()))
    assert flown.streams["radio"].received == 40
    times_ns = [answer.answer_ns for answer in flown.answers]
    assert times_ns == sorted(times_ns)
    assert not flown.streams["radio"].rejected


def test_a_silence_of_hours_is_skipped_and_pardoned_in_any_number_of_threads(tmp_path):
    late_ns = 5 * 3600 * 10**9
    times_ns = [10**9 + n * 10 * MS for n in range(50)] + [late_ns + n * 10 * MS for n in range(50)]
    path = radio_flight(tmp_path / "silence.mcap", [(time_ns, time_ns) for time_ns in times_ns])
    bundle = open_bundle(shipped_bundle())
    flown = [fly_exact(open_recording(path), bundle, ExactOptions(threads=n)) for n in (1, 2)]
    assert bytes_of(flown[0]) == bytes_of(flown[1])
    assert flown[0].judgement is not None
    assert flown[0].judgement.has_held
    silent_ns = [answer.answer_ns for answer in flown[0].answers if not answer.has_answer]
    assert all(time_ns < 3 * 10**9 or time_ns > late_ns - 62 * 10**9 for time_ns in silent_ns)


def test_a_recording_without_any_sensor_is_refused(tmp_path):
    path = tmp_path / "truth.mcap"
    with RecordingWriter(path, utc_offset_ns=0) as writer:
        writer.write_message(Truth(capture_ns=10**9, class_id=1, label="x"), 10**9)
    with pytest.raises(ConfigError, match="no radio or image stream"):
        fly_exact(open_recording(path), open_bundle(shipped_bundle()))


def test_a_recording_of_one_message_is_flown_in_any_number_of_threads(tmp_path):
    path = radio_flight(tmp_path / "one.mcap", [(10**9, 10**9)])
    bundle = open_bundle(shipped_bundle())
    flown = [fly_exact(open_recording(path), bundle, ExactOptions(threads=n)) for n in (1, 2)]
    assert bytes_of(flown[0]) == bytes_of(flown[1])
    assert (flown[0].inferred, flown[0].streams["radio"].processed) == (1, 1)


def test_a_trace_that_lies_about_its_times_neither_stops_a_flight_nor_its_accounting(flight, tmp_path):
    recording = open_recording(flight)
    first = next(event.header for event in recording.events({"radio"}))
    far_ns = (1 << 62) - 1
    lies = [
        Inference(stream="radio", epoch=first.epoch, sequence=n, arrived_ns=at, taken_ns=at, done_ns=at + 1)
        for n, at in enumerate((-far_ns, 0, far_ns, recording.start_ns))
    ]
    path = tmp_path / "lies.mcap"
    with RecordingWriter(path, utc_offset_ns=0) as writer:
        for stored in recording.stored():
            writer.write_stored(stored)
        writer.write_message(Trace(since_ns=-far_ns, time_ns=far_ns, inferences=tuple(lies)), recording.start_ns)
    flown = fly_exact(open_recording(path), open_bundle(shipped_bundle()))
    assert flown.is_balanced
    assert {name: stream.received for name, stream in flown.streams.items()} == {"radio": 150, "camera": 45}
    assert flown.streams["camera"].processed == 45
    assert flown.streams["radio"].processed == flown.as_in_flight == 1
    assert flown.answers[-1].answer_ns < recording.start_ns + 2 * 10**9
