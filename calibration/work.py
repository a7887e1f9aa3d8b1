"""The work folder: where the steps of a calibration leave what the next ones take."""

import shlex
from collections.abc import Collection, Sequence
from pathlib import Path

from models.disk import write_whole

RANGES = "ranges.npz"
SENSITIVITY = "sensitivity.json"
SENSITIVITY_PAGE = "sensitivity.html"
VERDICT = "verify.json"
"""Report that says which precisions passed their gates."""
VERDICT_PAGE = "verify.html"
STEPS = "commands.txt"
"""The commands that made what is there, a line each: they go into the bundle's manifest."""


def graph_file(role: str, precision: str, target: str = "any", batch: str = "one") -> str:
    """Return a graph's path within the work folder and the bundle."""
    of_target = "" if target == "any" else f"-{target}"
    return f"onnx/{role}.{precision}{of_target}{'' if batch == 'one' else '-any-batch'}.onnx"


def note_step(work: Path, typed: Sequence[str], *, is_first: bool = False) -> None:
    """Note a command, as typed; it takes the place of an earlier one of its name, unless it adds to what that made.

    Args:
        work: the folder.
        typed: program, command and arguments.
        is_first: whether all that came before is void now.

    Raises:
        RecordingError: the disk is full, or gone.
    """
    earlier = [] if is_first else noted_steps(work)
    kept = [one for one in earlier if "--add" in typed or shlex.split(one)[1:2] != list(typed[1:2])]
    line = shlex.join(word for word in typed if word != "--json")
    write_whole(work / STEPS, "".join(f"{one}\n" for one in (*kept, line)))


def noted_steps(work: Path) -> list[str]:
    """Return the commands that made what a work folder holds."""
    path = work / STEPS
    return path.read_text().splitlines() if path.is_file() else []


def remove_others(work: Path, targets: Collection[str], kept: Collection[str]) -> None:
    """Remove graphs for some targets that no step of now made: an earlier one's, by other ranges."""
    for target in targets:
        for file in sorted((work / "onnx").glob(f"*-{target}*.onnx")):
            if f"onnx/{file.name}" not in kept:
                file.unlink()
