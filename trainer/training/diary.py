"""The log of a run: one JSON object a line, one line an epoch."""

import json
import os
from pathlib import Path
from typing import Any

from models.disk import write_whole
from models.errors import RecordingError

LOG = "log.jsonl"


class Diary:
    """Writes the log; a resumed run keeps the lines of the epochs that are behind it."""

    def __init__(self, path: Path, epochs_behind: int) -> None:
        """Keep the lines of finished epochs: what was logged but not saved is trained again.

        Raises:
            RecordingError: the file cannot be written.
        """
        self.path = path
        kept = [line for line in read_log(path) if line["epoch"] < epochs_behind]
        write_whole(path, "".join(json.dumps(line) + "\n" for line in kept))

    def write(self, line: dict[str, Any]) -> None:
        """Add an epoch.

        Raises:
            RecordingError: the disk is full, or gone.
        """
        try:
            with self.path.open("a") as stream:
                stream.write(json.dumps(line) + "\n")
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as error:
            raise RecordingError(
                f"{self.path}: cannot be written ({error.strerror}): make room, then go on with --resume; what was"
                " saved is whole"
            ) from error


def read_log(path: Path) -> list[dict[str, Any]]:
    """Return the epochs of a log, none where there is no file; a line cut off by a crash ends it."""
    lines: list[dict[str, Any]] = []
    if not path.is_file():
        return lines
    for text in path.read_text(errors="replace").splitlines():
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            return lines
        if not isinstance(line, dict) or "epoch" not in line:
            return lines
        lines.append(line)
    return lines
