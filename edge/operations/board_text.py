"""Small files of /sys and /proc: what a driver says in one line, or nothing where it does not answer."""

import re
from pathlib import Path

_MOST_BYTES = 4096
_NUMBER = re.compile(r"[+-]?[0-9]{1,18}")


def read_text(path: Path, most_bytes: int = _MOST_BYTES) -> str | None:
    """Return a file's text without the blanks and NULs around it; None where it is empty or cannot be read."""
    try:
        with path.open("rb") as stream:
            data: bytes | None = stream.read(most_bytes)
    except OSError:  # absent, or forbidden
        return None
    if data is None:  # a Jetson's zone whose block is switched off answers EAGAIN, of which Python makes None
        return None
    text = data.decode("utf-8", "replace").strip("\0 \t\r\n")
    return "".join(one for one in text if one.isprintable() or one in "\t\n") or None


def read_number(path: Path) -> int | None:
    """Return the whole number that a file holds; None where it holds anything else."""
    text = read_text(path)
    return int(text) if text is not None and _NUMBER.fullmatch(text) else None
