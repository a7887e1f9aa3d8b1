"""Links that are away for a while, all at once, and come back: python tests/link_down_mavlink.py --seconds 60 --json

A real `uav-edge mavlink` over real ports: UDP both ways; a TCP server that ends and is there again; a TCP client that
leaves and comes; a serial adapter (a pseudo-terminal) that is unplugged and comes back as another device, to be found
by its name in by-id. Beside them a link that stays, and two whose other end never reads: nobody may wait for those.
Exit code 1 where a link that is back was not heard within two seconds, an answer from before was sent as a new one,
the memory of the flight has a gap, or the heartbeats on the link that stays were more than 2.5 s apart.
"""

import argparse
import json
import os
import pty
import socket
import subprocess
import sys
import tempfile
import time
import tty
from pathlib import Path
from typing import Any

from mavlink_pipeline import Pipeline
from pymavlink.dialects.v20 import common
from soak_mavlink import remembered

from edge.mavlink.station.ground import GroundStation
from edge.mavlink.wire import standard
from edge.mavlink.wire.codec import Flag
from edge.mavlink.wire.frames import FrameCounts, FrameParser
from edge.transport.sockets import BlockingPublisher

RESULTS_HZ = 50
MAX_BACK_S = 2.0
MAX_HEARTBEAT_GAP_S = 2.5
STALE_S = 0.5
"""An answer that is not marked as late is 0.3 s old at most."""
SETTLE_S = 3.0
"""At most so long, and no longer than they were away, all are watched after they are back."""
PATIENCE_S = 60
BAUD = 921_600
STAYS = "stays"
START = """
import sys
from pathlib import Path
from edge.mavlink.ports import serial_port
serial_port.STABLE_NAMES = Path(sys.argv.pop(1))
from edge.cli import main
sys.exit(main())
"""
"""`uav-edge` on a machine whose /dev/serial/by-id is elsewhere."""
CONFIG = """
bundle: none.uavb
results: {results}
streams:
  radio: {{modality: iq, endpoint: "ipc:///tmp/unused-radio", rate_hz: 100}}
mavlink:
  links:{links}
  spool: {{folder: memory, max_bytes: 100000000}}
"""


class _Station:
    """The other end of a link over a network."""

    def __init__(self, link: str) -> None:
        self._link = link
        self._station: GroundStation | None = None
        self.come()
        if self._station is not None and self._station.port:
            self._link = f"{link.rpartition(':')[0]}:{self._station.port}"
        self.port = int(self._link.rpartition(":")[2])

    def come(self) -> None:
        self._station = GroundStation(self._link)

    def go(self) -> None:
        if self._station is not None:
            self._station.close()
        self._station = None

    def poll(self) -> list[Any]:
        """Say who we are, and return the messages that arrived."""
        return [item.message for item in self._station.poll(timeout_ms=0)] if self._station is not None else []


class _Adapter:
    """A serial adapter: a pseudo-terminal with a name in `by-id`, and an autopilot behind it."""

    def __init__(self, name: Path) -> None:
        self._name = name
        self._taken: list[int] = []
        self._ends: tuple[int, int] | None = None
        self._heartbeat_s = 0.0
        self.come()
        self.device = str(name.readlink())

    def come(self) -> None:
        master, slave = pty.openpty()
        tty.setraw(master)
        os.set_blocking(master, False)
        self._ends, self._parser = (master, slave), FrameParser(FrameCounts())
        self._name.symlink_to(os.ttyname(slave))

    def go(self) -> None:
        """Unplug it, and let others have its number."""
        self._name.unlink()
        for end in self._ends or ():
            os.close(end)
        self._ends = None
        self._taken += pty.openpty()

    def poll(self) -> list[Any]:
        """Say who we are, and return the messages that arrived."""
        if self._ends is None:
            return []
        if time.monotonic() >= self._heartbeat_s + 1:
            self._heartbeat_s = time.monotonic()
            os.write(self._ends[0], standard.heartbeat(common.MAV_STATE_ACTIVE).pack(common.MAVLink(None, 1, 1)))
        try:
            return self._parser.feed(os.read(self._ends[0], 65_536))
        except BlockingIOError:
            return []

    def close(self) -> None:
        for end in (*(self._ends or ()), *self._taken):
            os.close(end)


class _Watch:
    """What was heard on one link."""

    def __init__(self) -> None:
        self.back_s: float | None = None
        """From its return to the first answer."""
        self.stale = 0
        self.late = 0
        """Marked so: this machine was busy."""
        self.heard = 0
        self.heartbeat_gap_s = 0.0
        self._heartbeat_s: float | None = None
        self._since_s = 0.0

    def begin(self) -> None:
        """It is here, from now on."""
        self.back_s, self._heartbeat_s, self._since_s = None, None, time.monotonic()

    def take(self, message: Any) -> None:
        now_s = time.monotonic()
        if message.get_type() == "HEARTBEAT":
            self.heartbeat_gap_s = max(self.heartbeat_gap_s, now_s - (self._heartbeat_s or now_s))
            self._heartbeat_s = now_s
        if message.get_type() != "FUSION_CLASSIFICATION":
            return
        self.heard += 1
        self.back_s = now_s - self._since_s if self.back_s is None else self.back_s
        if message.flags & Flag.STALE_INPUT:
            self.late += 1
        elif message.time_usec / 1e6 < self._since_s - STALE_S:
            self.stale += 1


class _Rig:
    """All other ends."""

    def __init__(self, folder: Path) -> None:
        by_id = folder / "by-id"
        by_id.mkdir()
        self.by_id = by_id
        self._hangs = _deaf_server()
        self._deaf = _Adapter(by_id / "usb-deaf")
        self._adapter = _Adapter(by_id / "usb-autopilot")
        own_udp, own_tcp = (_free_port(kind) for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM))
        self.ends: dict[str, Any] = {
            STAYS: _Station("udpin:127.0.0.1:0"),
            "udpout": _Station("udpin:127.0.0.1:0"),
            "udpin": _Station(f"udpout:127.0.0.1:{own_udp}"),
            "tcpout": _Station("tcpin:127.0.0.1:0"),
            "tcpin": _Station(f"tcpout:127.0.0.1:{own_tcp}"),
            "serial": self._adapter,
        }
        self.watches = {name: _Watch() for name in self.ends}
        self.stall_s = 0.0
        links = {
            f"tcpout:127.0.0.1:{self._hangs.getsockname()[1]}": "native",
            f"serial:{self._deaf.device}:57600": "native",
            f"serial:{self._adapter.device}:{BAUD}": "native",
            f"udpout:127.0.0.1:{self.ends[STAYS].port}": "native",
            f"udpout:127.0.0.1:{self.ends['udpout'].port}": "native",
            f"udpin:{own_udp}": "native",
            f"tcpout:127.0.0.1:{self.ends['tcpout'].port}": "native",
            f"tcpin:{own_tcp}": "native",
        }
        self.links = "".join(
            f'\n    - {{link: "{link}", bearer: [{bearer}], budget_bytes_s: 0, aggregate_s: 0}}'
            for link, bearer in links.items()
        )

    def listen(self, seconds: float, until: Any = lambda: False) -> None:
        """Serve all ends for so long, or until something is so."""
        began_s = looked_s = time.monotonic()
        while (now_s := time.monotonic()) - began_s < seconds and not until():
            self.stall_s, looked_s = max(self.stall_s, now_s - looked_s), now_s
            for name, end in self.ends.items():
                for message in end.poll():
                    self.watches[name].take(message)
            time.sleep(0.005)

    def all_heard(self) -> bool:
        """Say whether each link carries answers."""
        return all(watch.back_s is not None for watch in self.watches.values())

    def change(self, *, is_there: bool) -> None:
        """Let all but one go, or come."""
        for name, end in self.ends.items():
            if name == STAYS:
                continue
            if is_there:
                end.come()
                self.watches[name].begin()
            else:
                end.go()

    def close(self) -> None:
        for end in self.ends.values():
            if isinstance(end, _Station):
                end.go()
        self._adapter.close()
        self._deaf.close()
        self._hangs.close()


def _deaf_server() -> socket.socket:
    """Return a server that accepts nobody and reads nothing, and has little room for what it does not read."""
    server = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    server.bind(("127.0.0.1", 0))
    server.listen(1)
    return server


def _free_port(kind: socket.SocketKind) -> int:
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def link_down(folder: Path, seconds: float) -> dict[str, Any]:
    """Let all links go for so long, and return what came of it."""
    rig = _Rig(folder)
    config = folder / "flight.yaml"
    try:
        with BlockingPublisher(f"ipc://{folder}/results") as results:
            config.write_text(CONFIG.format(results=results.endpoint, links=rig.links))
            pipeline = Pipeline(results, RESULTS_HZ)
            command_line = [sys.executable, "-c", START, str(rig.by_id), "--quiet", "mavlink", "--config", str(config)]
            with subprocess.Popen(command_line, stderr=subprocess.PIPE, text=True) as process:
                try:
                    if not results.wait_for_listeners(1, PATIENCE_S):
                        raise TimeoutError("uav-edge mavlink does not start")
                    _fly(rig, pipeline, seconds)
                finally:
                    process.terminate()
                    ending_s = time.monotonic()
                    stderr = process.communicate(timeout=PATIENCE_S)[1]
                    ending_s = time.monotonic() - ending_s
    finally:
        rig.close()
    kept = remembered(folder / "memory")
    return _result(rig, seconds, pipeline.sent, kept) | {
        "exit_code": process.returncode,
        "ending_s": round(ending_s, 3),
        "is_clean": process.returncode == 0 and "Traceback" not in stderr,
        "log": stderr.splitlines(),
    }


def _fly(rig: _Rig, pipeline: Pipeline, seconds: float) -> None:
    pipeline.start()
    try:
        rig.listen(PATIENCE_S, rig.all_heard)
        if not rig.all_heard():
            silent = [name for name, watch in rig.watches.items() if watch.back_s is None]
            raise TimeoutError(f"nothing was heard of {silent}")
        rig.change(is_there=False)
        rig.listen(seconds)
        rig.change(is_there=True)
        rig.listen(PATIENCE_S, rig.all_heard)
        rig.listen(min(SETTLE_S, seconds))
    finally:
        pipeline.stop.set()
        pipeline.join()
    rig.listen(PATIENCE_S, lambda: rig.watches[STAYS].heard >= pipeline.sent)


def _result(rig: _Rig, seconds: float, sent: int, kept: list[int]) -> dict[str, Any]:
    links = {
        name: {
            "back_s": None if watch.back_s is None else round(watch.back_s, 3),
            "heard": watch.heard, "stale": watch.stale, "late": watch.late,
        }
        for name, watch in rig.watches.items() if name != STAYS
    }  # fmt: skip
    stays = rig.watches[STAYS]
    is_back = all(link["back_s"] is not None and link["back_s"] <= MAX_BACK_S for link in links.values())
    return {
        "seconds": seconds,
        "links": links,
        "heartbeat_gap_s_max": round(stays.heartbeat_gap_s, 3),
        "results": sent,
        "heard_on_link_that_stays": stays.heard,
        "remembered": len(kept),
        "is_memory_whole": kept == list(range(sent)),
        "stall_s_max": round(rig.stall_s, 3),
        "is_in_time": is_back and stays.heartbeat_gap_s <= MAX_HEARTBEAT_GAP_S,
        "is_new": not any(link["stale"] for link in links.values()),
    }


def main() -> int:
    """Fly, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long the links are away")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = link_down(Path(folder), args.seconds)
    is_sound = all(result[claim] for claim in ("is_in_time", "is_new", "is_memory_whole", "is_clean"))
    if args.json:
        print(json.dumps(result | {"is_sound": is_sound}))
    else:
        for name, link in result["links"].items():
            print(f"{name:8} back after {link['back_s']} s, {link['heard']} heard, {link['stale']} stale")
        rest = {name: value for name, value in result.items() if name not in ("links", "log")}
        print("\n".join(f"{name}: {value}" for name, value in rest.items()))
    return 0 if is_sound else 1


if __name__ == "__main__":
    sys.exit(main())
