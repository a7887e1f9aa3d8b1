"""`uav-calibrate bundle diff`: what a new release changes."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from models.command_line import print_json


def configure(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("first", type=Path, metavar="OLD", help="a .uavb folder, a .uavb.tar, or a store's current")
    parser.add_argument("second", type=Path, metavar="NEW", help="another")
    parser.add_argument("--json", action="store_true", help="end with one JSON object")


def run(args: argparse.Namespace) -> int:
    """Show the differences; exit 0 where there are none, 1 where there are, as `diff` does."""
    from calibration.release.differences import differences
    from models.bundle import open_bundle

    first, second = open_bundle(args.first), open_bundle(args.second)
    found = differences(first, second)
    is_same = not any(found.values())
    if is_same:
        print(f"{first.path} and {second.path} are the same")
    else:
        _print_text(found, first.manifest.title, second.manifest.title)
    if args.json:
        print_json({"is_same": is_same, **found})
    return 0 if is_same else 1


def _print_text(found: dict[str, Any], first: str, second: str) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    for title in ("fields", "metrics"):
        table = Table(title=title, title_justify="left")
        for heading in ("", first, second):
            table.add_column(heading, overflow="fold")
        for name, values in found[title].items():
            table.add_row(name, *(Text(text) for text in _cells(*values)))
        if found[title]:
            console.print(table)
    for name, change in found["files"].items():
        console.print(f"{change}: {name}", markup=False, highlight=False, soft_wrap=True)


def _cells(first: Any, second: Any) -> list[str]:
    """Return two values as text; of two lists what the other has not."""
    if isinstance(first, list | tuple) and isinstance(second, list | tuple):
        return [_only_in(first, second), _only_in(second, first)]
    return ["-" if value is None else str(value) for value in (first, second)]


def _only_in(these: Sequence[Any], others: Sequence[Any]) -> str:
    return "\n".join(str(item) for item in these if item not in others) or "(the others, or another order)"
