"""Flips 64 random bytes in each of many recordings: python tests/flip_bits.py 1000

Every damaged file must be found damaged by `check`, and every chunk that was not hit be read in full.
"""

import contextlib
import io
import json
import random
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from recorded import chunks_of, write_flight

from edge.cli import main
from edge.recording.reader import open_recording
from models.errors import RecordingError

WINDOWS = 160
"""Of 64 KiB."""
CHUNK_BYTES = 100_000
"""Small, two windows each, so that a file of 10 MB has many that are not hit."""
FLIPS = 64


@dataclass(frozen=True)
class Result:
    """What became of the files."""

    files: int
    undetected: int
    untouched_chunks: int
    missing_messages: int
    """Of chunks that were not hit, and could not be read."""
    wrong_messages: int
    """Read, and not what was written."""


def run(folder: Path, count: int, seed: int) -> Result:
    """Damage so many files."""
    path = folder / "flight.mcap"
    with mock.patch("edge.recording.chunk_writer.CHUNK_BYTES", CHUNK_BYTES):
        write_flight(path, WINDOWS)
    flight = path.read_bytes()
    written = {event.header.sequence: event for event in open_recording(path).events() if event.header}
    chunks = _numbers_by_chunk(flight)
    undetected = untouched = missing = wrong = 0
    for number in range(count):
        places = _damage(path, flight, random.Random(seed * 1_000_003 + number))
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            undetected += main(["--quiet", "recording", "check", str(path)]) == 0
        whole = [numbers for start, end, numbers in chunks if not any(start <= place < end for place in places)]
        read = _read(path)
        untouched += len(whole)
        missing += sum(len(numbers - set(read)) for numbers in whole)
        wrong += sum(event != written[sequence] for sequence, event in read.items())
    return Result(
        files=count,
        undetected=undetected,
        untouched_chunks=untouched,
        missing_messages=missing,
        wrong_messages=wrong,
    )


def _numbers_by_chunk(flight: bytes) -> list[tuple[int, int, set[int]]]:
    """Return start, end and the sequence numbers in each chunk."""
    found, first = [], 0
    for start, end, messages in chunks_of(flight):
        found.append((start, end, set(range(first, first + messages))))
        first += messages
    return found


def _damage(path: Path, flight: bytes, chance: random.Random) -> list[int]:
    """Write a file with other bytes at random places; return those. Its first 8 say what it is, and stay."""
    data = bytearray(flight)
    places = chance.sample(range(8, len(data)), FLIPS)
    for place in places:
        data[place] ^= chance.randrange(1, 256)
    path.write_bytes(data)
    return places


def _read(path: Path) -> dict:
    try:
        return {event.header.sequence: event for event in open_recording(path).events() if event.header}
    except RecordingError:
        return {}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        result = run(Path(scratch), int(sys.argv[1]), seed=1)
    print(json.dumps(result.__dict__))
