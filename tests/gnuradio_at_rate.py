"""Measures GNU Radio's own flowgraph into our source, with tags: python tests/gnuradio_at_rate.py --rate 20e6 --json

The flowgraph numbers its samples and tells how many its sink took. `uav-edge source` receives them, in a process of its
own, and here stands the pipeline: it takes every block and looks at the numbers at its ends. Each sample is accounted
for where sink, source and pipeline agree: sent = before it joined + received + lost, and what it received came
through, but for stale ones. What the sink drops after the last message that comes is told by no gap: `sink` disagrees.
Needs GNU Radio of the system: apt install gnuradio.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from edge.bench.machine import cpu_seconds
from edge.config import StreamConfig, load_flight
from edge.transport.inbox import is_intact, open_inbox, payload_view
from edge.transport.wire import Header, Reason, as_array

PYTHON = "/usr/bin/python3"
FLOWGRAPH = Path(__file__).with_name("gnuradio_flowgraph.py")
PERIOD = 65_536
"""After so many samples the flowgraph's numbers begin again."""
PATIENCE_S = 30.0
CONNECTS_WITHIN_S = 0.5
"""A subscriber that came before the sink tries again at least every 0.2 s."""
BLOCKS_PER_S = 100
QUIET_MS = 500
YAML = """
bundle: absent.uavb
results: ipc://{folder}/results
streams:
  radio: {{modality: iq, endpoint: "ipc://{folder}/radio", rate_hz: {blocks}, transport: {transport}}}
sources:
  - {{kind: gnuradio, stream: radio, endpoint: "ipc://{folder}/gnuradio", sample_rate_hz: {rate}, sample_type: {kind}}}
"""
TOLD = re.compile(
    r"(\d+) samples received and (\d+) lost of (\d+) from number (\d+) on, in (\d+) messages, (\d+) refused;"
    r" (\d+) thrown away"
)


class Flowgraph:
    """A flowgraph in a process of its own, its sink bound."""

    def __init__(self, endpoint: str, rate_hz: int, *options: str) -> None:
        command = [PYTHON, str(FLOWGRAPH), "--endpoint", endpoint, "--rate", str(rate_hz), *options]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
        assert self._process.stdout is not None
        assert self._process.stdout.readline().strip().endswith("READY")

    @property
    def process_id(self) -> int:
        return self._process.pid

    def start(self) -> None:
        self._tell("start\n")

    def stop(self) -> int:
        """Stop it; return how many samples its sink took."""
        assert self._process.stdout is not None
        self._tell("stop\n")
        while not (told := self._process.stdout.readline()).startswith("SENT"):
            assert told, "the flowgraph died: see its messages above"
        return int(told.split()[1])

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line)
        self._process.stdin.flush()

    def __enter__(self) -> "Flowgraph":
        return self

    def __exit__(self, *error: object) -> None:
        self._process.kill()
        self._process.communicate()


class BlockNumbers:
    """Counts blocks and the samples in them by the numbers at their ends."""

    def __init__(self) -> None:
        self.samples = 0
        self.torn = 0
        """Blocks whose ends are not as far apart as their length."""
        self.missing_blocks = 0
        """In the stream's own numbering: what the source says is missing, and what was lost behind it."""
        self.overwritten = 0
        """Blocks in shared memory that the source needed again too soon."""
        self._between = 0
        """Samples missing from one block to the next, each time within PERIOD."""
        self._first: int | None = None
        self._following: int | None = None
        self._sequence: int | None = None

    def count(self, header: Header, ends: tuple[int, int] | None) -> None:
        """Count a block by the numbers of its first and last sample; None where it was written again before."""
        self.samples += header.dim0
        self.missing_blocks += header.sequence - self._sequence - 1 if self._sequence is not None else 0
        self._sequence = header.sequence
        if ends is None:
            self.overwritten += 1
            return
        first, last = ends
        self.torn += (last - first - header.dim0 + 1) % PERIOD != 0
        if self._following is None:
            self._first = first
        else:
            self._between += (first - self._following) % PERIOD
        self._following = last + 1

    def missing(self, begin: int, end: int) -> int:
        """Return how many of the samples from number `begin` to before `end` did not come.

        Each gap, and what is missing at either end, is known within PERIOD: it may be longer by whole ones.
        """
        if self._first is None or self._following is None:
            return (end - begin) % PERIOD
        return (self._first - begin) % PERIOD + self._between + (end - self._following) % PERIOD


class Pipeline:
    """Takes a stream's blocks, and counts their samples."""

    def __init__(self, stream: StreamConfig) -> None:
        self._inbox = open_inbox(stream)
        self.numbers = BlockNumbers()

    def take(self, timeout_ms: int) -> bool:
        """Take a block; say whether one came."""
        message = self._inbox.receive(timeout_ms)
        if message is None:
            return False
        assert not isinstance(message, Reason), message
        header, payload = message
        block = as_array(header, payload_view(payload))
        first, last = (round(float(i) + 128 + 256 * (float(q) + 128)) for i, q in (block[0], block[-1]))
        self.numbers.count(header, (first, last) if is_intact(payload) else None)
        return True

    def close(self) -> None:
        self._inbox.close()


def measure(
    folder: Path, rate_hz: int, seconds: float, kind: str = "complex64", transport: str = "socket"
) -> dict[str, object]:
    """Fly for a while; return what became of the samples, and what it cost."""
    config = folder / "flight.yaml"
    config.write_text(YAML.format(folder=folder, rate=rate_hz, kind=kind, transport=transport, blocks=BLOCKS_PER_S))
    command = [sys.executable, "-m", "edge.cli", "source", "--config", str(config), "--stream", "radio"]
    pipeline = Pipeline(load_flight(config).streams["radio"])
    options = ("--sink", "pub", "--tags", "--kind", kind)
    with (
        Flowgraph(f"ipc://{folder}/gnuradio", rate_hz, *options) as flowgraph,
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as source,
    ):
        both = {"source": source.pid, "flowgraph": flowgraph.process_id}
        try:
            await_binding(folder / "radio")
            time.sleep(CONNECTS_WITHIN_S)
            flowgraph.start()
            before_s = {name: cpu_seconds(pid) for name, pid in both.items()}
            begin_s = time.monotonic()
            while time.monotonic() < begin_s + seconds:
                pipeline.take(QUIET_MS)
            took_s = time.monotonic() - begin_s
            share = {name: round((cpu_seconds(pid) - before_s[name]) / took_s, 3) for name, pid in both.items()}
            sent = flowgraph.stop()
            while pipeline.take(QUIET_MS):
                pass
        finally:
            source.terminate()
            told = source.communicate(timeout=PATIENCE_S)[1]
    while pipeline.take(QUIET_MS):  # the last block, which need not be full
        pass
    pipeline.close()
    flown = {"rate_hz": rate_hz, "sent_per_s": round(sent / took_s), "seconds": round(took_s, 2)}
    return flown | {"kind": kind, "transport": transport} | account(sent, told, pipeline.numbers, share)


def await_binding(path: Path) -> None:
    """Wait until the source publishes."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not path.exists():
        assert time.monotonic() < deadline_s, "the source did not come up: see its messages above"
        time.sleep(0.02)


def account(sent: int, told: str, numbers: BlockNumbers, core_share: dict[str, float]) -> dict[str, object]:
    """Compare what flowgraph, source and pipeline know, from the first sample that the source received to the last."""
    found = TOLD.search(told)
    assert found is not None, told
    received, lost, span, joined_at, messages, refused, stale = (int(number) for number in found.groups())
    unseen = lost + stale - numbers.missing(joined_at, joined_at + span)
    agrees = {
        "sink": sent == joined_at + received + lost,
        "source": received + lost == span,
        "pipeline": numbers.samples == received - stale,
        "numbers": numbers.torn + numbers.overwritten == 0 and unseen >= 0 and unseen % PERIOD == 0,
    }
    return {
        "sent": sent,
        "before_joining": joined_at,
        "received": received,
        "lost": lost,
        "stale": stale,
        "came_through": numbers.samples,
        "blocks_missing": numbers.missing_blocks,
        "blocks_overwritten": numbers.overwritten,
        "messages": messages,
        "refused": refused,
        "agrees": agrees,
        "accounted": all(agrees.values()),
        "core_share": core_share,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=20e6, help="samples a second")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--kind", choices=("complex64", "int16", "int8"), default="complex64")
    parser.add_argument("--transport", choices=("socket", "shm"), default="socket", help="from source to pipeline")
    parser.add_argument("--json", action="store_true", help="one object on one line")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        found = measure(Path(scratch), round(args.rate), args.seconds, args.kind, args.transport)
    print(json.dumps(found) if args.json else json.dumps(found, indent=2))
    return 0 if found["accounted"] else 1


if __name__ == "__main__":
    sys.exit(main())
