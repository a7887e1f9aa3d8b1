"""Writes a recording as files for other programs: radio as SigMF, frames as images or video, the rest as tables."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from edge.recording.disk import new_folder
from edge.recording.exports.images import write_images
from edge.recording.exports.radio import write_radio
from edge.recording.exports.tables import write_table
from edge.recording.exports.task import TableFormat, Task
from edge.recording.exports.video import write_video
from edge.recording.flight_facts import FAULTS_FILE
from edge.recording.injected import injected_into
from edge.recording.reader import Recording
from edge.transport.messages import Kind
from models.errors import ConfigError

_TURN = {Kind.FRAME: 1, Kind.ENCODED_FRAME: 1, Kind.IQ: 2}
"""Small things first: of a disk that fills, more is left."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Wishes:
    """What to write, and how."""

    streams: frozenset[str] | None = None
    """By name; None: everything."""
    table_format: TableFormat = "csv"
    is_video: bool = False
    """Frames as a video, not as images."""


@dataclass(kw_only=True, slots=True)
class Exported:
    """What became of the messages, by stream."""

    written: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)
    """They contradict their own header, or hold no image."""


def export(
    recording: Recording, folder: Path, wishes: Wishes, watch: Callable[[int], None] = lambda _: None
) -> Exported:
    """Fill a new folder; return what was written. Injected faults are named in it, in FAULTS_FILE.

    Args:
        recording: the flight.
        folder: to be made; what a full disk ends stays in FOLDER.part.
        wishes: what to write, and how.
        watch: told the number of messages done.
    Raises:
        ConfigError: the folder is there already, or the recording has no such stream.
        DeviceError: a library for it is not installed.
        RecordingError: the folder cannot be written, or a message not be read.
    """
    chosen = _chosen(recording, wishes)
    done = Exported()
    injected = injected_into([recording])
    with new_folder(folder) as temporary:
        if injected is not None:
            (temporary / FAULTS_FILE).write_bytes(msgspec.json.encode(injected))
        for stream in chosen:
            task = Task(
                recording=recording,
                stream=stream,
                folder=temporary,
                injected=injected.faults if injected is not None else (),
                table_format=wishes.table_format,
                note=_noting(done, stream, watch),
            )
            _writer(recording.streams[stream].kind, wishes)(task)
    return done


def _noting(done: Exported, stream: str, watch: Callable[[int], None]) -> Callable[[bool], None]:
    def note(is_written: bool) -> None:
        (done.written if is_written else done.skipped)[stream] += 1
        watch(done.written.total() + done.skipped.total())

    return note


def _chosen(recording: Recording, wishes: Wishes) -> list[str]:
    known = recording.streams
    unknown = sorted((wishes.streams or frozenset()) - set(known))
    if unknown:
        raise ConfigError(f"no stream {', '.join(unknown)}: there is {', '.join(known) or 'none'}")
    chosen = [name for name in known if wishes.streams is None or name in wishes.streams]
    return sorted(chosen, key=lambda name: _TURN.get(known[name].kind, 0))


def _writer(kind: Kind, wishes: Wishes) -> Callable[[Task], None]:
    if kind == Kind.IQ:
        return write_radio
    if kind in (Kind.FRAME, Kind.ENCODED_FRAME):
        return write_video if wishes.is_video else write_images
    return write_table
