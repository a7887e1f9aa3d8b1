"""Forged and replayed frames at `uav-edge mavlink` that is killed and started again: python tests/forge_mavlink.py 5 40

Takes how many times it is started, and how many signed commands the ground sends it each time. Beside each command an
attacker without the key, who hears all that the ground sends, sends forged and old frames; after each start, all that
were ever sent. Every other time the process is killed, else it ends in order. Prints one JSON object; exit code 1 where
a frame counted that must not, a genuine one was lost, or the key is in what the process wrote or said.
"""

import base64
import contextlib
import json
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pymavlink.dialects.v20 import common
from signatures import GROUND, KEY, OTHER_KEY, VEHICLE, by, heartbeat, plain, signed

from edge.mavlink.trust.signing import Signing
from edge.mavlink.wire.frames import FrameCounts, FrameParser

START, PAUSE = 1.0, 2.0
PATIENCE_S = 30
PACE_S = 0.06
"""Fewer than the commands a second that are answered."""
SETUP = common.MAVLink_setup_signing_message(*VEHICLE, list(OTHER_KEY[:31] + b"x"), 2**48 - 1)
"""Another key over the air."""
SETTLE_HEARTBEATS = 1
"""Whatever came before one went out was answered."""
CONFIG = """
bundle: none.uavb
results: ipc://{folder}/results
streams:
  radio: {{modality: iq, endpoint: "ipc://{folder}/radio", rate_hz: 100}}
mavlink:
  links: [{{link: "udpin:{port}", key: "{key}", require_signed: {demand}}}]
  spool: {{folder: "{folder}/spool"}}
"""


def order(what: float) -> Any:
    """Return a command that is answered, each time it counts, with one acknowledgement."""
    return common.MAVLink_command_long_message(*VEHICLE, common.MAV_CMD_USER_1, 0, what, 0, 0, 0, 0, 0, 0)


class Ground:
    """A ground station as the standard has it: signs, checks what it hears, and lets its time follow."""

    def __init__(self, port: int) -> None:
        self.sent: list[bytes] = []
        """Everything, as whoever listens on the air has it."""
        self.heard: Counter[str] = Counter()
        self.texts: list[str] = []
        self.process: subprocess.Popen[str] | None = None
        """Whom it waits for."""
        self._signing = Signing(KEY, time.time_ns, is_clean=True)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.connect(("127.0.0.1", port))
        self._parser = FrameParser(FrameCounts())
        self._heartbeat_s = 0.0

    def send(self, message: Any) -> None:
        """Send one message, signed."""
        frame = by(self._signing, message)
        self.sent.append(frame)
        with contextlib.suppress(ConnectionRefusedError):
            self._socket.send(frame)

    def listen(self, seconds: float) -> None:
        """Take what comes for a while, and say once a second who we are."""
        deadline_s = time.monotonic() + seconds
        while (left_s := deadline_s - time.monotonic()) > 0:
            if time.monotonic() - self._heartbeat_s >= 1:
                self._heartbeat_s = time.monotonic()
                self.send(heartbeat())
            self._socket.settimeout(max(min(left_s, 0.2), 0.001))
            with contextlib.suppress(TimeoutError, ConnectionRefusedError):
                self._take(self._socket.recv(4096))

    def await_more(self, name: str, count: int = 1) -> bool:
        """Listen until so many more messages of a name were heard; say whether they were."""
        wanted, deadline_s = self.heard[name] + count, time.monotonic() + PATIENCE_S
        while self.heard[name] < wanted and time.monotonic() < deadline_s:
            if self.process is not None and self.process.poll() is not None:
                raise RuntimeError("uav-edge mavlink ended")
            self.listen(0.01)
        return self.heard[name] >= wanted

    def close(self) -> None:
        self._socket.close()

    def _take(self, data: bytes) -> None:
        for message in self._parser.feed(data):
            self._signing.check(bytes(message.get_msgbuf()))
            self.heard[message.get_type()] += 1
            if message.get_type() == "STATUSTEXT":
                self.texts.append(message.text)


class Attacker:
    """Sends from many places whatever can be made without the key."""

    def __init__(self, port: int) -> None:
        self.sent = 0
        self._rng = random.Random(1)
        self._sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(12)]
        for sock in self._sockets:
            sock.connect(("127.0.0.1", port))

    def send(self, frames: list[bytes]) -> None:
        """Send frames, some of them in one datagram behind a forged beginning."""
        for frame in frames:
            with contextlib.suppress(ConnectionRefusedError, BlockingIOError):
                self._rng.choice(self._sockets).send(frame)
            self.sent += 1

    def forged(self, genuine: bytes) -> list[bytes]:
        """Return what a genuine frame can be made into."""
        now = int.from_bytes(genuine[-12:-6], "little")
        other_link = genuine[:-13] + bytes([genuine[-13] ^ 1]) + genuine[-12:]
        later = genuine[:-12] + (now + 1).to_bytes(6, "little") + genuine[-6:]
        version_1 = bytes(order(PAUSE).pack(common.MAVLink(None, *GROUND), force_mavlink1=True))
        return [
            genuine, other_link, later, _changed(genuine), _without_signature(genuine), version_1,
            plain(SETUP), plain(order(PAUSE)), plain(heartbeat(), VEHICLE), plain(order(PAUSE), VEHICLE),
            signed(order(PAUSE), now + 1, secret=OTHER_KEY), signed(order(PAUSE), 2**48 - 1, secret=OTHER_KEY),
            bytes([0xFD, 255, 1, 0, 0, *GROUND, 0, 0, 0]) + genuine, genuine[:-1],
        ]  # fmt: skip

    def close(self) -> None:
        for sock in self._sockets:
            sock.close()


def _with_crc(body: bytes) -> bytes:
    return body + int(common.x25crc(body[1:] + bytes([order(START).crc_extra])).crc).to_bytes(2, "little")


def _changed(genuine: bytes) -> bytes:
    """Return the frame with another order, the right CRC, and the old signature."""
    body = bytearray(genuine[:-15])
    body[10 + 3] ^= 0x40
    return _with_crc(bytes(body)) + genuine[-13:]


def _without_signature(genuine: bytes) -> bytes:
    return _with_crc(genuine[:2] + b"\0" + genuine[3:-15])


@contextlib.contextmanager
def running(config: Path, *, is_killed: bool) -> Iterator[subprocess.Popen[str]]:
    """Run `uav-edge mavlink`, with what it says beside its deployment; kill it at the end, or stop it."""
    command_line = [sys.executable, "-m", "edge.cli", "--debug", "mavlink", "--config", str(config)]
    place = config.with_name(f"said by {time.monotonic_ns()}")
    with place.open("w") as said, subprocess.Popen(command_line, stdout=said, stderr=said, text=True) as process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGKILL if is_killed else signal.SIGTERM)
            process.wait(timeout=PATIENCE_S)
    if "Traceback" in place.read_text() or process.returncode != (-signal.SIGKILL if is_killed else 0):
        raise RuntimeError(f"exit code {process.returncode}: {place.read_text()}")


def attack(folder: Path, starts: int, commands: int, demand: str = "commands") -> dict[str, Any]:
    """Run all of it, with what the link demands to be signed."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    key, config = folder / "key", folder / "flight.yaml"
    key.write_bytes(KEY)
    key.chmod(0o600)
    config.write_text(CONFIG.format(folder=folder, port=port, key=key, demand=demand))
    ground, attacker = Ground(port), Attacker(port)
    sent = acknowledged = replayed_at_start = killed = unheard = 0
    with contextlib.closing(ground), contextlib.closing(attacker):
        for number in range(starts):
            is_killed = number % 2 == 0
            killed += is_killed
            with running(config, is_killed=is_killed) as ground.process:
                old, begun = list(ground.sent), len(ground.sent)
                if not ground.await_more("HEARTBEAT"):
                    raise TimeoutError("uav-edge mavlink is not heard")
                unheard += len(ground.sent) - begun
                before = ground.heard["COMMAND_ACK"]
                attacker.send(old)
                ground.await_more("HEARTBEAT", SETTLE_HEARTBEATS)
                replayed_at_start += ground.heard["COMMAND_ACK"] - before
                ground.send(SETUP)
                for _ in range(commands):
                    ground.send(order(START))
                    attacker.send(attacker.forged(ground.sent[-1]))
                    sent += 1
                    acknowledged += ground.await_more("COMMAND_ACK")
                    ground.listen(PACE_S)
                ground.await_more("HEARTBEAT", SETTLE_HEARTBEATS)
    forged_accepted = ground.heard["COMMAND_ACK"] - acknowledged
    return {
        "starts": starts,
        "killed": killed,
        "genuine_commands": sent,
        "genuine_lost": sent - acknowledged,
        "heartbeats_until_heard": unheard,
        "forged_or_replayed": attacker.sent,
        "forged_or_replayed_accepted": forged_accepted,
        "of_these_after_a_start": replayed_at_start,
        "leaks": leaks(folder, key),
        "is_sound": not forged_accepted
        and sent == acknowledged
        and not _paused(ground.texts)
        and not leaks(folder, key),
    }


def leaks(folder: Path, key: Path) -> list[str]:
    """Return the files beside a key that tell it, as bytes or as text."""
    secrets = [secret for one in (KEY, bytes(SETUP.secret_key)) for secret in _written(one)]
    return [
        path.name
        for path in folder.rglob("*")
        if path.is_file() and path != key and any(secret in path.read_bytes() for secret in secrets)
    ]


def _written(secret: bytes) -> list[bytes]:
    return [secret, secret.hex().encode(), repr(secret).encode(), repr(list(secret)).encode(), base64.b64encode(secret)]


def _paused(texts: list[str]) -> bool:
    return any("paused" in text for text in texts)


def main() -> int:
    """Attack, and print what came of it."""
    with tempfile.TemporaryDirectory() as folder:
        result = attack(Path(folder), int(sys.argv[1]), int(sys.argv[2]))
    print(json.dumps(result))
    return 0 if result["is_sound"] else 1


if __name__ == "__main__":
    sys.exit(main())
