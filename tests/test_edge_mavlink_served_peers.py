"""Ground stations that are not ours set and ask `uav-edge mavlink` as a process, over UDP."""

import importlib.util
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import mavlink_samples as samples
import pytest
from mavlink_peers import AGAIN_S, PATIENCE_S, Ground, free_port, publishing, teach_pymavlink
from mavlink_vehicle import ACCEPTED, DENIED, UNSUPPORTED, long
from pymavlink.dialects.v20 import common
from signatures import KEY

from edge.mavlink.control.component import CAPABILITIES
from edge.mavlink.control.parameters import PARAMETERS
from edge.mavlink.trust.keys import make_key
from edge.transport.sockets import BlockingPublisher

REQUEST, USER_1, STORAGE = common.MAV_CMD_REQUEST_MESSAGE, common.MAV_CMD_USER_1, common.MAV_CMD_PREFLIGHT_STORAGE
NAMES = [known.name for known in PARAMETERS]
PASSPHRASE = "opensesame"


@pytest.fixture
def results(tmp_path: Path) -> Iterator[BlockingPublisher]:
    """Stands for the pipeline."""
    with BlockingPublisher(f"ipc://{tmp_path}/results") as publisher:
        yield publisher


def test_pymavlink_reads_sets_and_saves_parameters_and_asks_who_we_are(
    tmp_path: Path, results: BlockingPublisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    teach_pymavlink(monkeypatch)
    port = free_port()
    (tmp_path / "key").write_bytes(KEY)
    (tmp_path / "key").chmod(0o600)
    mavlink = {"links": [{"link": f"udpin:{port}", "key": "key"}], "parameters": "parameters.json"}
    with Ground(f"udpout:127.0.0.1:{port}", KEY) as ground, publishing(tmp_path, results, mavlink):
        results.send(samples.on_wire(samples.status()))
        version = ground.answer(long(REQUEST, common.MAVLINK_MSG_ID_AUTOPILOT_VERSION), "AUTOPILOT_VERSION")
        assert version.capabilities == CAPABILITIES
        assert list(ground.parameters()) == NAMES

        assert ground.put("FUS_RATE_HZ", 5.0) == 5.0
        assert ground.put("FUS_TEXT", float("nan")) == 1.0
        assert ground.parameters()["FUS_RATE_HZ"] == 5.0
        assert ground.command(STORAGE, 1) == ACCEPTED
        assert "FUS_RATE_HZ" in (tmp_path / "parameters.json").read_text()

        assert [ground.command(USER_1, order) for order in (2, 9, 3)] == [ACCEPTED, DENIED, ACCEPTED]
        assert ground.command(common.MAV_CMD_USER_2, 1) == UNSUPPORTED
        status = ground.answer(long(REQUEST, common.MAVLINK_MSG_ID_ONBOARD_COMPUTER_STATUS), "ONBOARD_COMPUTER_STATUS")
        assert 0 < status.ram_total < 2**32 - 1


def test_mavproxy_sets_a_parameter_and_commands_with_the_key_of_its_passphrase(
    tmp_path: Path, results: BlockingPublisher
) -> None:
    program = Path(sys.executable).parent / "mavproxy.py"
    if not program.exists():
        pytest.skip("needs MAVProxy: pip install 'MAVProxy<1.8.75' future")
    port = free_port()
    make_key(tmp_path / "key", PASSPHRASE)
    command = [
        sys.executable, str(program), f"--master=udpin:127.0.0.1:{port}", "--target-system=1", "--target-component=191",
        "--default-modules=link,cmdlong,param,signing", f"--state-basedir={tmp_path}", "--logfile=mp.tlog",
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "HOME": str(tmp_path)}
    mavlink = {"links": [{"link": f"udpout:127.0.0.1:{port}", "key": "key"}]}
    with (
        publishing(tmp_path, results, mavlink),
        subprocess.Popen(
            command, cwd=tmp_path, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True,
        ) as mavproxy,
    ):  # fmt: skip
        lines: list[str] = []
        reader = threading.Thread(target=lambda: lines.extend(mavproxy.stdout or ()))
        reader.start()
        try:
            say(mavproxy, lines, "Received 10 parameters")
            say(mavproxy, lines, "Setup signing key", f"signing key {PASSPHRASE}")
            say(mavproxy, lines, "FUS_RATE_HZ = 5.0", "param set FUS_RATE_HZ 5", "param fetch FUS_RATE_HZ")
            say(mavproxy, lines, "USER_1: ACCEPTED", f"long {USER_1} 2 0 0 0 0 0 0")
            say(mavproxy, lines, "FUSION: publishing is paused, by 255/")
        finally:
            mavproxy.kill()
            reader.join(PATIENCE_S)


def say(mavproxy: subprocess.Popen[str], lines: list[str], heard: str, *said: str) -> None:
    """Type commands, again and again, until MAVProxy says something."""
    assert mavproxy.stdin is not None
    deadline_s = time.monotonic() + PATIENCE_S
    while not any(heard in line for line in lines):
        assert time.monotonic() < deadline_s, f"MAVProxy never said {heard!r}, but {lines[-20:]}"
        for command in said:
            print(command, file=mavproxy.stdin, flush=True)
        again_s = time.monotonic() + AGAIN_S
        while time.monotonic() < again_s and not any(heard in line for line in lines):
            time.sleep(0.05)


def test_mavsdk_reads_and_sets_parameters(tmp_path: Path, results: BlockingPublisher) -> None:
    if importlib.util.find_spec("mavsdk") is None or importlib.util.find_spec("mavsdk.plugins") is None:
        pytest.skip("needs MAVSDK 4: pip install 'mavsdk>=4,<5'")
    port = free_port()
    setter = [sys.executable, str(Path(__file__).parent / "mavsdk_setter.py"), f"udpin://127.0.0.1:{port}"]
    mavlink = {"links": [{"link": f"udpout:127.0.0.1:{port}", "require_signed": "none"}]}
    with publishing(tmp_path, results, mavlink):
        run = subprocess.run([*setter, "FUS_RATE_HZ", "5"], capture_output=True, text=True, timeout=PATIENCE_S)
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)

    assert sorted(found["all"]) == sorted(NAMES)
    assert (found["told"], found["all"]["FUS_RATE_HZ"]) == (5.0, 5.0)
