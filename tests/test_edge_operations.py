"""Scores, summaries and the supervisor."""

import io
import os
import signal
import threading
import time
from dataclasses import replace

import msgspec
import pytest
from rich.console import Console

from edge.config import load_flight
from edge.operations.flown import Flown
from edge.operations.observer import Observer
from edge.operations.score import score
from edge.operations.summary_text import print_summary
from edge.operations.supervisor import MAX_RESTARTS, Supervisor, flight_commands
from edge.transport.messages import (
    Classification,
    Kind,
    Load,
    ModalityAnswer,
    PipelineStatus,
    StreamAccounting,
    Truth,
    pack,
)
from edge.transport.sockets import Publisher
from edge.transport.truths import TruthTimeline
from edge.transport.wire import Stamp, encode_bytes
from models.errors import ConfigError, OnboardError

GROUND = ["ground", "--link", "udpin:127.0.0.1:0"]
"""A process that lives until it is told to stop."""
FLIGHT = """
bundle: absent.uavb
results: ipc://{folder}/results
streams: {{radio: {{modality: iq, endpoint: "ipc://{folder}/radio", rate_hz: 100.0}}}}
sources: [{{kind: synthetic, stream: radio, sensor: radio}}]
mavlink: {{links: ["udpout:127.0.0.1:14550"]}}
recording: {{directory: .}}
"""


def truths() -> TruthTimeline:
    return TruthTimeline([Truth(capture_ns=2000, class_id=1, label="b"), Truth(capture_ns=1000, class_id=0, label="a")])


def answer(capture_ns: int, class_id: int, iq: int = -1, image: int = -1) -> Classification:
    return Classification(
        sequence=1,
        capture_ns=capture_ns,
        answer_ns=capture_ns + 10,
        class_id=class_id,
        label="",
        confidence=0.9,
        probs=(),
        modalities=(
            ModalityAnswer(name="iq", mask=float(iq >= 0), class_id=iq),
            ModalityAnswer(name="image", mask=float(image >= 0), class_id=image),
        ),
        latency_ms={"total": 2.0},
    )


def ledger(**changes: int) -> StreamAccounting:
    counts = {"received": 14, "processed": 7, "superseded": 1, "dropped_late": 1, "shed": 2, "gathered": 2}
    counts |= {"in_flight": 0, "lost_transport": 0}
    return StreamAccounting(**{**counts, **changes}, rejected={"black": 1}, state="live")


def test_truth_holds_from_its_time_until_the_next():
    timeline = truths()
    assert timeline.at(999) is None
    assert [timeline.at(t).label for t in (1000, 1999, 2000, 9000)] == ["a", "a", "b", "b"]


def test_score_counts_fused_and_each_modality_alone_over_the_same_answers():
    answers = [answer(500, 0, 0, 0), answer(1000, 0, 0, 1), answer(1500, 0, 1, 1), answer(2500, 0, 1, 1)]
    assert score(answers, truths()) == {
        "accuracy": 0.6667,
        "accuracy_image": 0.3333,
        "accuracy_iq": 0.6667,
        "scored": 3,
    }


def test_no_data_counts_as_wrong_for_the_fused_answer_only():
    shares = score([answer(1000, -1), answer(1001, 0, iq=0)], truths())
    assert (shares["accuracy"], shares["accuracy_iq"], shares["accuracy_image"]) == (0.5, 1.0, None)


def test_without_truth_nothing_is_scored():
    assert score([answer(1000, 0)], TruthTimeline())["accuracy"] is None


@pytest.mark.parametrize(
    "fate", ["received", "processed", "superseded", "dropped_late", "shed", "gathered", "in_flight"]
)
def test_a_ledger_that_is_off_by_one_is_not_balanced(fate):
    assert ledger().balanced
    assert not ledger(**{fate: getattr(ledger(), fate) + 1}).balanced


def flown(**streams: StreamAccounting) -> Flown:
    return Flown(title="t", model="m", labels=("a", "b"), answers=[answer(1000, 0)], truths=truths(), streams=streams)


def test_summary_has_every_fate_and_says_whether_it_balances():
    summary = flown(radio=ledger()).summary()["accounting"]["radio"]
    fates = ("processed", "superseded", "dropped_late", "shed", "gathered", "rejected", "in_flight")
    assert summary["received"] == sum(summary[fate] for fate in fates)
    assert summary["balanced"] is True
    assert not flown(radio=ledger(received=15)).is_balanced


def status(**streams: StreamAccounting) -> PipelineStatus:
    return PipelineStatus(time_ns=1, results=1, streams=streams, model="m", bundle_sha256="", labels=("a", "b"))


def publish(publisher: Publisher, epoch: int, sequence: int, message: PipelineStatus) -> None:
    stamp = Stamp(0, epoch, sequence, 1, 1)
    publisher.send(encode_bytes(Kind.STATUS, stamp, pack(message)))


def test_accounting_adds_up_over_restarts_of_the_pipeline(tmp_path):
    """The dead pipeline's two messages in flight are lost; the equation still holds, over the sums."""
    endpoint = f"ipc://{tmp_path}/results"
    with Publisher(endpoint) as publisher, Observer(endpoint) as observer:
        assert publisher.wait_for_listeners(1, 5.0)
        publish(publisher, 1, 0, status(radio=ledger(received=9, processed=2)))
        publish(publisher, 1, 1, status(radio=ledger(received=16, in_flight=2)))
        publish(publisher, 2, 0, status(radio=ledger()))
        observer.drain()
        flight = observer.flown("t")
    summary = flight.summary()
    assert flight.is_balanced
    assert (summary["restarts"], summary["lost_in_restarts"]) == (1, 2)
    assert summary["accounting"]["radio"]["received"] == 30
    assert summary["accounting"]["radio"]["rejected_by_reason"] == {"black": 2}


def test_what_was_shed_is_told_with_its_time_and_reason(tmp_path):
    endpoint, output = f"ipc://{tmp_path}/results", io.StringIO()
    loads = [Load(), Load(level=1, name="image every 2nd", why="hot [70 C]")] * 2
    with Publisher(endpoint) as publisher, Observer(endpoint) as observer:
        assert publisher.wait_for_listeners(1, 5.0)
        for second, load in enumerate([*loads, Load()]):
            told = msgspec.structs.replace(status(radio=ledger()), load=load, time_ns=(7 + second) * 10**9)
            publish(publisher, 1, second, told)
        observer.drain()
        summary = observer.flown("t").summary()
    assert [(change["after_s"], change["name"]) for change in summary["loads"]] == [
        (1.0, "image every 2nd"),
        (2.0, ""),
        (3.0, "image every 2nd"),
        (4.0, ""),
    ]
    print_summary(summary, Console(file=output, width=80))
    assert "after 1.0 s shed from then on: image every 2nd (hot [70 C])" in output.getvalue()
    assert "after 4.0 s nothing shed any more" in output.getvalue()


def test_draining_ends_though_somebody_goes_on_publishing(tmp_path, monkeypatch):
    monkeypatch.setattr("edge.operations.observer.DRAIN_S", 0.1)
    endpoint = f"ipc://{tmp_path}/results"
    drained = threading.Event()

    def publish_on(publisher: Publisher) -> None:
        give_up_s = time.monotonic() + 10.0
        while not drained.is_set() and time.monotonic() < give_up_s:
            publisher.send((b"neither header", b"nor payload"))

    with Publisher(endpoint) as publisher, Observer(endpoint) as observer:
        assert publisher.wait_for_listeners(1, 5.0)
        thread = threading.Thread(target=publish_on, args=(publisher,))
        thread.start()
        observer.drain()
        is_publishing = thread.is_alive()
        drained.set()
        thread.join()
    assert is_publishing


def test_a_message_that_is_no_answer_does_not_end_the_flight(tmp_path):
    endpoint = f"ipc://{tmp_path}/results"
    with Publisher(endpoint) as publisher, Observer(endpoint) as observer:
        assert publisher.wait_for_listeners(1, 5.0)
        publisher.send(encode_bytes(Kind.CLASSIFICATION, Stamp(0, 1, 0, 1, 1), b"no msgpack"))
        publish(publisher, 1, 1, status(radio=ledger()))
        observer.drain()
    assert not observer.answers
    assert observer.status is not None


def test_printed_summary_tells_restarts_and_what_they_lost():
    output = io.StringIO()
    flight = replace(flown(radio=ledger()), restarts=2, lost_in_restarts=3)
    print_summary(flight.summary(), Console(file=output, width=80))
    assert "restarts of the pipeline: 2; messages in flight when it died, lost: 3" in output.getvalue()
    print_summary(flown(radio=ledger()).summary(), Console(file=output, width=80))
    assert output.getvalue().count("restarts of the pipeline") == 1


def test_summary_tells_whose_engines_flew_at_the_end_and_why(tmp_path):
    endpoint, output = f"ipc://{tmp_path}/results", io.StringIO()
    told = {
        "precisions": {"iq": "fp16"},
        "backend": "onnxruntime",
        "backend_reason": "query failed: [illegal]: rebuild",
    }
    with Publisher(endpoint) as publisher, Observer(endpoint) as observer:
        assert publisher.wait_for_listeners(1, 5.0)
        publish(publisher, 1, 0, msgspec.structs.replace(status(radio=ledger()), **told))
        observer.drain()
        summary = observer.flown("t").summary()
    assert told == {name: summary[name] for name in told}
    print_summary(summary, Console(file=output, width=80))
    assert "graphs that flew: iq fp16 on onnxruntime" in output.getvalue()
    assert "query failed: [illegal]: rebuild" in output.getvalue()


def test_printed_summary_names_streams_fates_and_reasons_within_80_columns():
    output = io.StringIO()
    print_summary(flown(radio=ledger(), camera=ledger(received=15)).summary(), Console(file=output, width=80))
    text = output.getvalue()
    for word in ("1 answers", "fused 100.0%", "radio", "camera", "superseded", "black", "NO"):
        assert word in text
    assert max(map(len, text.splitlines())) <= 80


def run_until(supervisor: Supervisor, is_done, timeout_s: float = 20.0) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not is_done():
        assert time.monotonic() < deadline_s
        supervisor.check()
        time.sleep(0.01)


def test_a_killed_process_is_started_again(tmp_path):
    config = tmp_path / "flight.yaml"
    config.write_text("bundle: x\nresults: ipc:///tmp/x\nstreams: {}\n")
    with Supervisor({"ground": GROUND}) as supervisor:
        first = supervisor.process_ids()["ground"]
        os.kill(first, signal.SIGKILL)
        run_until(supervisor, lambda: supervisor.process_ids().get("ground", first) != first)


def test_a_process_that_cannot_start_is_not_tried_again(tmp_path):
    commands = {"pipeline": ["pipeline", "--config", str(tmp_path / "absent.yaml")]}
    with Supervisor(commands) as supervisor, pytest.raises(ConfigError, match="pipeline cannot start"):
        run_until(supervisor, lambda: False)


def test_a_pipeline_that_takes_its_time_to_refuse_is_not_tried_again_either(tmp_path, monkeypatch):
    monkeypatch.setattr("edge.operations.supervisor._SETTLED_S", 0.0)
    commands = {"pipeline": ["pipeline", "--config", str(tmp_path / "absent.yaml")]}
    with Supervisor(commands) as supervisor, pytest.raises(ConfigError, match="pipeline cannot start"):
        run_until(supervisor, lambda: False)


def test_a_pipeline_that_keeps_dying_is_given_up(monkeypatch):
    monkeypatch.setattr("edge.operations.supervisor.MAX_BACKOFF_S", 0.0)
    error = pytest.raises(OnboardError, match=f"died {MAX_RESTARTS + 1} times")
    with Supervisor({"pipeline": GROUND}) as supervisor, error:
        run_until(supervisor, lambda: kill_all(supervisor) < 0)


def test_a_pipeline_that_crashes_is_started_again_without_the_gpu():
    with Supervisor({"pipeline": GROUND}) as supervisor:
        os.kill(supervisor.process_ids()["pipeline"], signal.SIGKILL)  # as an administrator or the kernel may
        run_until(supervisor, lambda: supervisor._children[0].starts == 2)
        assert supervisor._children[0].arguments == GROUND
        os.kill(supervisor.process_ids()["pipeline"], signal.SIGSEGV)
        run_until(supervisor, lambda: supervisor._children[0].starts == 3)
        assert supervisor._children[0].arguments == [*GROUND, "--without-gpu"]


def kill_all(supervisor: Supervisor) -> int:
    """Kill what runs; return its last process id."""
    process_ids = list(supervisor.process_ids().values())
    for process_id in process_ids:
        os.kill(process_id, signal.SIGKILL)
    return process_ids[-1] if process_ids else 0


@pytest.mark.parametrize("name", ["mavlink", "recorder", "source radio"])
def test_any_other_process_that_keeps_dying_is_started_again_for_ever(monkeypatch, name):
    monkeypatch.setattr("edge.operations.supervisor.MAX_BACKOFF_S", 0.0)
    seen: set[int] = set()
    with Supervisor({name: GROUND}) as supervisor:

        def has_outlived_the_limit() -> bool:
            seen.add(kill_all(supervisor))
            return len(seen - {0}) > MAX_RESTARTS + 2

        run_until(supervisor, has_outlived_the_limit)


def test_a_refusal_ends_the_flight_at_its_start_only(tmp_path, caplog, monkeypatch):
    """A source that has run, and now finds no device, is tried again."""
    commands = {"source radio": ["source", "--config", str(tmp_path / "absent.yaml"), "--stream", "radio"]}
    with Supervisor({"source radio": GROUND}) as supervisor:
        supervisor._children[0].arguments = commands["source radio"]
        kill_all(supervisor)
        run_until(supervisor, lambda: "exit code 2): restarting" in caplog.text)
    monkeypatch.setattr("edge.operations.supervisor._SETTLED_S", 20.0)  # a busy machine is slow to start Python
    with Supervisor(commands) as supervisor, pytest.raises(ConfigError, match="source radio cannot start"):
        run_until(supervisor, lambda: False)


def test_a_recorder_without_room_is_left_alone_and_the_flight_goes_on(tmp_path, caplog):
    config = tmp_path / "flight.yaml"
    config.write_text(FLIGHT.format(folder=tmp_path))
    recorder = ["record", "--config", str(config), "--out", str(tmp_path / "absent" / "flight.mcap")]
    with Supervisor({"recorder": recorder, "mavlink": GROUND}) as supervisor:
        run_until(supervisor, lambda: "goes on unrecorded" in caplog.text)
        supervisor.check()
        assert list(supervisor.process_ids()) == ["mavlink"]
    assert [record.levelname for record in caplog.records].count("ERROR") == 1


def test_the_pipeline_stops_before_its_sources_and_those_who_listen_stop_last(tmp_path):
    path = tmp_path / "flight.yaml"
    path.write_text(FLIGHT.format(folder=tmp_path))
    assert list(reversed(flight_commands(load_flight(path), path))) == [
        "pipeline",
        "source radio",
        "recorder",
        "mavlink",
    ]


def test_ctrl_c_reaches_the_supervisor_alone():
    with Supervisor({"ground": GROUND}) as supervisor:
        assert os.getpgid(supervisor.process_ids()["ground"]) != os.getpgid(0)


def test_the_processes_of_a_flight_share_a_session_so_that_their_priorities_are_compared():
    with Supervisor({"ground": GROUND}) as supervisor:
        assert os.getsid(supervisor.process_ids()["ground"]) == os.getsid(0)


def test_no_process_survives_the_supervisor(tmp_path):
    with Supervisor({"ground": GROUND}) as supervisor:
        process_id = supervisor.process_ids()["ground"]
    with pytest.raises(ProcessLookupError):
        os.kill(process_id, 0)
