"""Damaged bytes into the parser, and a flood of frames at the publisher: python tests/flood_mavlink.py 10000000 20

Takes the number of mutated bytes, and for how many seconds 10,000 frames a second come. Prints one JSON object; exit
code 1 where something was raised, memory grew, heartbeats were missing for more than 2.5 s, or a frame counted that
must not.
"""

import contextlib
import json
import random
import resource
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mavlink_samples as samples
import signatures
from signatures import KEY, NOW, OTHER_KEY, command, heartbeat, plain, signed, signing

from edge.mavlink.network.link import Link
from edge.mavlink.station.ground import GroundStation
from edge.mavlink.trust.security import Security
from edge.mavlink.wire import codec
from edge.mavlink.wire.frames import MAX_FRAME_BYTES
from edge.transport.sockets import BlockingPublisher

PIECE_BYTES = 1400
FRAMES_HZ = 10_000
MAX_GAP_S = 2.5
MAX_GROWTH_KB = 8_192
PATIENCE_S = 60
ROUNDS_HZ = 100
CONFIG = """
bundle: none.uavb
results: {results}
streams:
  radio: {{modality: iq, endpoint: "ipc:///tmp/unused-radio", rate_hz: 100}}
mavlink: {{links: [{{link: "udpin:{port}", key: "{key}"}}]}}
"""


def genuine() -> list[bytes]:
    """Return frames of every sort that a link may carry."""
    report = codec.report_of(samples.answer(), model_id=1, now_ns=0, max_age_ms=300.0, is_replay=False)
    messages = [heartbeat(), command(), codec.classification_message(report), signatures.parameter()]
    return [frame for message in messages for frame in (plain(message), signed(message, NOW, secret=OTHER_KEY))]


def mutated(rng: random.Random, frames: list[bytes], size: int) -> Iterator[bytes]:
    """Yield about so many bytes of frames with bits flipped, pieces cut out, doubled, and noise between them."""
    made = 0
    while made < size:
        piece = bytearray()
        while len(piece) < PIECE_BYTES:
            piece += rng.choice(frames) if rng.random() < 0.8 else rng.randbytes(rng.randrange(300))
        for _ in range(rng.randrange(40)):
            at = rng.randrange(len(piece))
            match rng.randrange(4):
                case 0:
                    piece[at] ^= 1 << rng.randrange(8)
                case 1:
                    piece[at] = rng.choice((0xFD, 0xFE, 0xFF, 0, 1))
                case 2:
                    del piece[at : at + rng.randrange(1, 20)]
                case _:
                    piece[at:at] = piece[at : at + rng.randrange(1, 20)]
        made += len(piece)
        yield bytes(piece)


def parse(size: int, seed: int = 1) -> dict[str, Any]:
    """Feed mutated bytes to a link where everything must be signed, and with a key that nobody of them has."""
    transport = samples.FakeTransport()
    link = Link(transport, 1, 191, security=Security(require_signed="all", signing=signing()))
    counted, raised, held, fed, before_kb = 0, 0, 0, 0, 0
    began_s = time.process_time()
    for number, piece in enumerate(mutated(random.Random(seed), genuine(), size)):
        fed += len(piece)
        transport.incoming = [(f"peer {number % 3}", piece)]
        try:
            counted += len(link.receive())
        except Exception:  # noqa: BLE001 - whatever it is, it is what this looks for
            raised += 1
        held = max([held, *(len(parser._buffer) for parser in link._parsers.values())])
        if number == 100:
            before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    grown_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb if before_kb else 0
    return {
        "bytes": fed,
        "raised": raised,
        "counted": counted,
        "refused": dict(link.refused),
        "bad": link.counts.bad,
        "held_bytes_max": held,
        "grown_kb": grown_kb,
        "mb_per_s": round(fed / 1e6 / (time.process_time() - began_s), 2),
        "is_sound": not raised and not counted and held < MAX_FRAME_BYTES and grown_kb < MAX_GROWTH_KB,
    }


class _Flood(threading.Thread):
    """Sends 10,000 frames a second from three places: genuine ones of others, forged, damaged."""

    def __init__(self, port: int, seconds: float) -> None:
        super().__init__()
        self.sent = 0
        self._address = ("127.0.0.1", port)
        self._seconds = seconds

    def run(self) -> None:
        rng = random.Random(1)
        frames = genuine()
        mix = [*frames, *(piece[: rng.randrange(20, 300)] for piece in mutated(rng, frames, 100_000))]
        sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(3)]
        began_s = time.monotonic()
        while (elapsed_s := time.monotonic() - began_s) < self._seconds:
            while self.sent < elapsed_s * FRAMES_HZ:
                with contextlib.suppress(BlockingIOError):
                    sockets[self.sent % 3].sendto(mix[self.sent % len(mix)], self._address)
                self.sent += 1
            time.sleep(1 / ROUNDS_HZ)
        for sock in sockets:
            sock.close()


def flood(folder: Path, seconds: float) -> dict[str, Any]:
    """Run `uav-edge mavlink`, flood the very link that a ground station listens on, and watch its heartbeats."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    key, config = folder / "key", folder / "flight.yaml"
    key.write_bytes(KEY)
    key.chmod(0o600)
    with BlockingPublisher(f"ipc://{folder}/results") as results, GroundStation(f"udpout:127.0.0.1:{port}") as ground:
        config.write_text(CONFIG.format(results=results.endpoint, port=port, key=key))
        command_line = [sys.executable, "-m", "edge.cli", "--quiet", "mavlink", "--config", str(config)]
        with subprocess.Popen(command_line, stderr=subprocess.PIPE, text=True) as process:
            try:
                gaps_s, sizes_kb, sent = _watch(process.pid, ground, port, seconds)
            finally:
                process.terminate()
                stderr = process.communicate(timeout=PATIENCE_S)[1]
    return {
        "frames_per_s": round(sent / seconds),
        "heartbeats": len(gaps_s),
        "heartbeat_gap_s_max": round(max(gaps_s, default=float("inf")), 2),
        "rss_kb": [sizes_kb[len(sizes_kb) // 4], sizes_kb[-1]],
        "warnings": len(stderr.splitlines()),
        "exit_code": process.returncode,
        "is_sound": (
            max(gaps_s, default=float("inf")) <= MAX_GAP_S
            and sizes_kb[-1] - sizes_kb[len(sizes_kb) // 4] < MAX_GROWTH_KB
            and process.returncode == 0
            and "Traceback" not in stderr
        ),
    }


def _watch(pid: int, ground: GroundStation, port: int, seconds: float) -> tuple[list[float], list[int], int]:
    """Return the gaps between heartbeats, the process's sizes, and how many frames were sent."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not _heartbeats(ground):
        if time.monotonic() > deadline_s:
            raise TimeoutError("uav-edge mavlink does not start")
    flooding = _Flood(port, seconds)
    flooding.start()
    last_s, gaps_s, sizes_kb = time.monotonic(), [], [_rss_kb(pid)]
    while flooding.is_alive():
        for _ in range(_heartbeats(ground)):
            now_s = time.monotonic()
            gaps_s.append(now_s - last_s)
            last_s = now_s
        sizes_kb.append(_rss_kb(pid))
    gaps_s.append(time.monotonic() - last_s)
    return gaps_s, sizes_kb, flooding.sent


def _heartbeats(ground: GroundStation) -> int:
    return sum(item.name == "HEARTBEAT" and item.component_id == 191 for item in ground.poll(timeout_ms=50))


def _rss_kb(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])


def main() -> int:
    """Run both, and print what came of them."""
    with tempfile.TemporaryDirectory() as folder:
        result = {"parser": parse(int(sys.argv[1])), "flood": flood(Path(folder), float(sys.argv[2]))}
    print(json.dumps(result))
    return 0 if all(part["is_sound"] for part in result.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
