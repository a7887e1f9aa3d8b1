"""Imports every log, image folder, clip and radio recording beside the checkout: python tests/import_everything.py

Told of each file are its messages with their rate, and what becomes of a copy of which 64 bytes are other ones: it is
recovered, and says what is lost, or refused. A copy that is taken for whole although that could be known is a failure.
"""

import argparse
import contextlib
import io
import json
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from edge.cli import main as uav_edge
from edge.recording.reader import open_recording

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # it would tell of every damaged frame
FLIPS = 64
OPTIONS = {".sigmf-meta": "--sigmf", ".bin": "--pose", ".tlog": "--pose", ".ulg": "--pose", ".mp4": "--video"}


@dataclass(frozen=True)
class Imported:
    """What became of one file."""

    name: str
    code: int
    streams: dict[str, tuple[int, float]]
    """Messages and messages a second, by stream."""
    damaged: str
    """What became of the copy with other bytes; empty where no copy was made."""
    is_sound: bool
    """Whether the file was imported, and the copy found out."""


def inputs(data: Path) -> Iterator[tuple[Path, list[str]]]:
    """Yield each file or folder, with the options that import it."""
    for path in sorted(data.rglob("*")):
        if path.suffix in OPTIONS and (path.suffix != ".bin" or path.parent.name == "flights"):
            yield path, [OPTIONS[path.suffix], str(path)]
        elif path.name == "telemetry.csv":
            yield (
                path.parent,
                ["--images", str(path.parent), "--times", str(path), "--pose", str(path), "--align", "utc"],
            )


def imported(out: Path, options: Sequence[str]) -> tuple[int, dict, str]:
    """Return exit code, what was told as JSON, and what was said."""
    said, told = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(told), contextlib.redirect_stderr(said):
        code = uav_edge(["import", str(out), "--json", *options])
    lines = told.getvalue().splitlines()
    return code, json.loads(lines[-1]) if code == 0 and lines else {}, said.getvalue().strip()


def can_know(path: Path) -> bool:
    """Say whether an importer can know that samples, log entries or frames were changed: radio only by a hash."""
    return path.suffix != ".sigmf-meta" or "core:sha512" in path.read_text()


def damaged_copy(path: Path, folder: Path, seed: int) -> Path:
    """Return a copy of a file of which some bytes are other ones: not those at its beginning."""
    copy = folder / path.name
    shutil.copyfile(path, copy)
    content = path.with_suffix(".sigmf-data") if path.suffix == ".sigmf-meta" else path
    data, chance = bytearray(content.read_bytes()), random.Random(seed)
    for place in chance.sample(range(len(data) // 4, len(data)), FLIPS):
        data[place] ^= chance.randrange(1, 256)
    (folder / content.name).write_bytes(data)
    return copy


def try_out(path: Path, options: Sequence[str], folder: Path, data: Path) -> Imported:
    """Import a file, and a damaged copy of it."""
    code, _, said = imported(folder / "whole.mcap", options)
    streams = {}
    if code == 0:
        recording = open_recording(folder / "whole.mcap")
        streams = {name: (one.count, round(one.rate_hz, 2)) for name, one in recording.streams.items()}
    fate, is_known = "", True
    if path.is_file():
        copy = damaged_copy(path, folder, seed=1)
        its_code, its_told, its_said = imported(folder / "copy.mcap", [*options[:-1], str(copy)])
        lost = [text for text in its_told.get("origins", {}).values() if "skipped" in text]
        lost += [f"{count} missing of {name}" for name, count in its_told.get("missing", {}).items()]
        is_known = bool(its_code or lost) or not can_know(path)
        fate = f"refused ({its_said})" if its_code else "; ".join(lost) or "taken for whole"
    return Imported(str(path.relative_to(data)), code, streams, fate or said, code == 0 and is_known)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, nargs="?", default=DATA, help="folder with the recordings")
    args = parser.parse_args(argv)
    found = []
    for path, options in inputs(args.data):
        with tempfile.TemporaryDirectory() as folder:
            one = try_out(path, options, Path(folder), args.data)
        counts = ", ".join(f"{count} {name} at {rate_hz} Hz" for name, (count, rate_hz) in one.streams.items())
        print(f"{one.name}: {counts or f'exit code {one.code}'}; a damaged copy: {one.damaged}", flush=True)
        found.append(one)
    print(
        json.dumps(
            {"files": len(found), "sound": sum(one.is_sound for one in found), "found": list(map(asdict, found))}
        )
    )
    return int(not found or not all(one.is_sound for one in found))


if __name__ == "__main__":
    sys.exit(main())
