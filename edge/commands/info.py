"""`uav-edge info`, or `uav-edge recording info`: what a recording holds, and what of it is damaged."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge.commands.recording_inputs import open_shown

if TYPE_CHECKING:
    from edge.recording.reader import Recording


def configure(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("recording", type=Path, metavar="FLIGHT.mcap", help="the recording")
    parser.add_argument("--json", action="store_true", help="print the same as JSON on the last line")


def run(args: argparse.Namespace) -> int:
    """Print streams, the model that flew, metadata, attachments and damage.

    Exit 0 also when damaged, since the rest can be flown.
    """
    from models.command_line import print_json

    recording = open_shown(args.recording)
    _print_text(recording)
    if args.json:
        print_json(_as_json(recording))
    return 0


def _print_text(recording: "Recording") -> None:
    from rich.console import Console
    from rich.table import Table

    from edge.backends.select import precisions_text
    from edge.recording.damage_text import gap_lines

    table = Table(title=f"{recording.path.name}: {recording.duration_ns / 1e9:.2f} s", title_justify="left")
    table.add_column("stream")
    table.add_column("kind")
    for name in ("messages", "Hz", "missing", "MB"):
        table.add_column(name, justify="right")
    for name, stream in recording.streams.items():
        cells = (str(stream.count), f"{stream.rate_hz:.2f}", str(stream.missing), f"{stream.stored_bytes / 1e6:.2f}")
        table.add_row(name, stream.kind.name.lower(), *cells)
    console = Console()
    console.print(table)
    model, precisions = _model(recording)
    if model:
        told = f", graphs: {precisions_text(precisions)}" if precisions else ""
        console.print(f"model: {model}{told}", markup=False, highlight=False, soft_wrap=True)
    for name, text in recording.metadata.items():
        console.print(f"{name}: {text}", markup=False, highlight=False, soft_wrap=True)
    for name, data in recording.attachments.items():
        console.print(f"attached: {name}, {len(data)} bytes", markup=False, highlight=False, soft_wrap=True)
    for line in (*_injected(recording), *_dropped(recording), f"damage: {recording.damage}", *gap_lines(recording)):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _as_json(recording: "Recording") -> dict[str, Any]:
    from edge.recording.damage_text import damage_json

    model, precisions = _model(recording)
    return {
        "path": str(recording.path),
        "duration_s": recording.duration_ns / 1e9,
        "streams": {
            name: {
                "kind": stream.kind.name.lower(),
                "messages": stream.count,
                "rate_hz": stream.rate_hz,
                "missing": stream.missing,
                "bytes": stream.stored_bytes,
            }
            for name, stream in recording.streams.items()
        },
        "model": model,
        "precisions": precisions,
        "metadata": recording.metadata,
        "injected": _faults(recording),
        "attachments": {name: len(data) for name, data in recording.attachments.items()},
        "left_out": recording.left_out,
        "damage": damage_json(recording),
    }


def _injected(recording: "Recording") -> list[str]:
    faults = _faults(recording)
    return [f"A TEST: faults were injected into this flight: {', '.join(faults)}"] if faults else []


def _faults(recording: "Recording") -> tuple[str, ...]:
    from edge.recording.injected import injected_into

    injected = injected_into([recording])
    return injected.faults if injected is not None else ()


def _dropped(recording: "Recording") -> list[str]:
    """Return what the recorder said last of what it could not record: a line, or none where it said nothing."""
    from edge.transport.messages import Kind, RecorderStatus

    status = recording.last_message(Kind.RECORDER)
    if not isinstance(status, RecorderStatus):
        return []
    lost, refused = sum(status.lost.values()), sum(status.refused.values())
    end = f", ended because {status.pause}" if status.pause else ""
    return [f"recorder, until then: {lost} messages lost on the way, {refused} refused{end}"]


def _model(recording: "Recording") -> tuple[str, dict[str, str]]:
    """Return the bundle that flew, and the precision of each of its graphs; both empty where nobody told."""
    from edge.transport.messages import Kind, PipelineStatus

    status = recording.last_message(Kind.STATUS)
    return (status.model, status.precisions) if isinstance(status, PipelineStatus) else ("", {})
