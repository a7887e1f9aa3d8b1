from pathlib import Path

import pytest

from edge.config import load_flight
from models.errors import ConfigError

FLIGHT = """bundle: demo.uavb
results: ipc:///tmp/results
pose: ipc:///tmp/pose
streams:
  radio:
    {modality: iq, endpoint: "tcp://127.0.0.1:5555", rate_hz: 100}
sources:
  - {kind: synthetic, stream: radio, sensor: radio, seed: 0, dwell_s: 0.1}
"""


def test_a_flight_at_its_limits_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "flight.yaml"
    name = "Ra_d.i-0" * 8
    text = FLIGHT.replace("5555", "65535").replace("  radio:", f"  {name}:").replace("stream: radio", f"stream: {name}")
    path.write_text(text)
    config = load_flight(path)
    assert list(config.streams) == [name]


def test_one_word_puts_a_stream_into_shared_memory(tmp_path: Path) -> None:
    path = tmp_path / "flight.yaml"
    slots = []
    for options in ("", ", shm_slots: 5", ", transport: socket", ", transport: shm", ", transport: shm, shm_slots: 5"):
        path.write_text(FLIGHT.replace("rate_hz: 100", f"rate_hz: 100{options}"))
        slots.append(load_flight(path).streams["radio"].ring_slots)
    assert slots == [0, 0, 0, 8, 5]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (":5555", ":0", r":5: streams\.radio: endpoint .*PORT, 1 to 65535"),
        (":5555", ":65536", r":5: streams\.radio: endpoint .*PORT, 1 to 65535"),
        (":5555", ":*", r":5: streams\.radio: endpoint .*expected a port, 1 to 65535"),
        ("tcp://127.0.0.1:5555", "ipc:///tmp/results", ":1: streams.radio and results have the endpoint"),
        ("tcp://127.0.0.1:5555", "ipc:///tmp/pose", ":1: pose and streams.radio have the endpoint"),
        ("/tmp/pose", "/tmp/results", ":1: pose and results have the endpoint"),
        ("  radio:", '  "":', "stream '': expected 1 to 64 of the characters"),
        ("  radio:", "  a/b:", ":1: stream 'a/b': expected 1 to 64 of the characters"),
        ("  radio:", f"  {'x' * 65}:", "x': expected 1 to 64 of the characters"),
        ("rate_hz: 100}", "rate_hz: 100, shm_slots: 3}", r":5: streams\.radio: shm_slots is 3: expected 4 to 62"),
        ("rate_hz: 100}", "rate_hz: 100, shm_slots: 63}", r":5: streams\.radio: shm_slots is 63: expected 4 to 62"),
        ("rate_hz: 100}", "rate_hz: 100, transport: udp}", r":6: streams\.radio\.transport: .*'udp'"),
        ("seed: 0", "seed: -1", r":8: sources\.0: seed is -1: expected at least 0"),
        ("dwell_s: 0.1", "dwell_s: 0.09", r":8: sources\.0: dwell_s is 0.09: expected at least 0.1"),
    ],
)
def test_what_cannot_fly_is_refused_with_its_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = tmp_path / "flight.yaml"
    path.write_text(FLIGHT.replace(old, new, 1))
    with pytest.raises(ConfigError, match=rf"flight\.yaml.*{message}"):
        load_flight(path)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ("pipeline: {backend: tensorrt}", "pipeline.backend is tensorrt: expected plans, the folder"),
        ("plan_options: plan.yaml", "plan_options says what plans were built with: expected plans, the folder"),
        ("pipeline: {backend: cuda}", r"pipeline\.backend"),
    ],
)
def test_a_backend_that_cannot_be_is_refused(tmp_path: Path, keys: str, message: str) -> None:
    path = tmp_path / "flight.yaml"
    path.write_text(FLIGHT + keys)
    with pytest.raises(ConfigError, match=message):
        load_flight(path)


def test_plans_are_relative_to_the_deployment(tmp_path: Path) -> None:
    path = tmp_path / "flight.yaml"
    path.write_text("plans: ../plans\nplan_options: plan.yaml\npipeline: {backend: tensorrt}\n" + FLIGHT)
    config = load_flight(path)
    assert (config.plans, config.plan_options) == (str(tmp_path.parent / "plans"), str(tmp_path / "plan.yaml"))
    path.write_text(FLIGHT)
    assert (load_flight(path).plans, load_flight(path).pipeline.backend) == (None, "auto")


def test_paths_of_a_deployment_are_relative_to_its_file(tmp_path: Path) -> None:
    path = tmp_path / "deployments" / "flight.yaml"
    path.parent.mkdir()
    path.write_text("bundle_keys: [../keys/a.pub, /etc/b.pub]\n" + FLIGHT.replace("demo.uavb", "../store/current"))
    config = load_flight(path)
    assert config.bundle == f"{tmp_path}/store/current"
    assert config.bundle_keys == (f"{tmp_path}/keys/a.pub", "/etc/b.pub")
