"""Copies recordings, whole or in part, into a new one with an index: what repair, cut and merge have in common."""

import heapq
import itertools
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edge.recording import channels
from edge.recording.disk import replacing
from edge.recording.reader import Recording, Stored
from edge.recording.shifting import shifted
from edge.recording.writer import RecordingWriter
from models.errors import ConfigError, RecordingError

OVERLAP_NS = 100_000_000
"""By so much the parts of one flight may overlap: its threads change files one after the other."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """A recording to copy from."""

    recording: Recording
    clock_offset_ns: int = 0
    """Added to its clock."""
    begin_ns: int | None = None
    """By the recording's own clock; None: from its start on."""
    end_ns: int | None = None
    """Messages from here on are not copied; None: to its end."""

    def count(self, streams: Collection[str] | None) -> int:
        """Return how many messages would be copied."""
        return self.recording.count(streams, self.begin_ns, self.end_ns)

    def stored(self, streams: Collection[str] | None) -> Iterator[Stored]:
        """Yield what is to be copied, in the order of time."""
        return self.recording.stored(streams, self.begin_ns, self.end_ns)


@dataclass(frozen=True, kw_only=True, slots=True)
class Copied:
    """What became of the messages, by stream."""

    written: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)
    """They had to be put on another clock, and are not what their channel says."""


def copy(
    out: Path,
    sources: Sequence[Source],
    *,
    streams: Collection[str] | None = None,
    metadata: dict[str, str] | None = None,
    watch: Callable[[int], None] = lambda _: None,
) -> Copied:
    """Write one recording from others, on the clock of the first; return what was written.

    Args:
        out: file to write; replaced only when complete.
        sources: what it is made of.
        streams: what is copied, by name; None: everything.
        metadata: texts to add to those of the sources.
        watch: told how many messages are done.
    Raises:
        ConfigError: no source has such a stream, or two have the same one at the same time.
        RecordingError: the file cannot be written.
    """
    _check(sources, streams)
    utc_offset_ns = sources[0].recording.utc_offset_ns
    copied = Copied()
    every = {name: summary.every for source in reversed(sources) for name, summary in source.recording.streams.items()}
    with (
        replacing(out) as temporary,
        RecordingWriter(
            temporary, metadata={**_metadata(sources), **(metadata or {})}, utc_offset_ns=utc_offset_ns, every=every
        ) as writer,
    ):
        for name, data in _attachments(sources).items():
            writer.attach(name, "application/octet-stream", data)
        parts = [zip(source.stored(streams), itertools.repeat(source)) for source in sources]
        for done, (stored, source) in enumerate(heapq.merge(*parts, key=_time), 1):
            moved = _moved(stored, source, utc_offset_ns)
            if moved is not None:
                writer.write_stored(moved)
            (copied.skipped if moved is None else copied.written)[stored.channel.stream] += 1
            watch(done)
    return copied


def _moved(stored: Stored, source: Source, utc_offset_ns: int) -> Stored | None:
    """Return a message as it is written, None where it is none."""
    try:
        return shifted(stored, source.clock_offset_ns, utc_offset_ns)
    except RecordingError:
        return None


def _time(part: tuple[Stored, Source]) -> int:
    stored, source = part
    return stored.log_time_ns + source.clock_offset_ns


def _check(sources: Sequence[Source], streams: Collection[str] | None) -> None:
    known = {name for source in sources for name in source.recording.streams}
    unknown = sorted(set(streams or ()) - known)
    if unknown:
        raise ConfigError(f"no stream {', '.join(unknown)}: there is {', '.join(sorted(known)) or 'none'}")
    for one, other in itertools.combinations(sources, 2):
        for name in sorted(set(one.recording.streams) & set(other.recording.streams) & set(streams or known)):
            (begin, end), (other_begin, other_end) = _span(one, name), _span(other, name)
            if min(end, other_end) - max(begin, other_begin) > OVERLAP_NS:
                raise ConfigError(
                    f"{name} is in {one.recording.path} and in {other.recording.path} at the same time:"
                    " choose with --topics, cut one before, or say how far its clock is off with --clock-offset"
                )


def _span(source: Source, stream: str) -> tuple[int, int]:
    """Return when a stream begins and ends, in UTC."""
    summary = source.recording.streams[stream]
    shift_ns = source.recording.utc_offset_ns + source.clock_offset_ns
    return summary.first_ns + shift_ns, summary.last_ns + shift_ns


def _metadata(sources: Sequence[Source]) -> dict[str, str]:
    """Return what the sources say about themselves, differing texts one after the other."""
    texts: dict[str, list[str]] = {}
    for source in sources:
        for name, text in source.recording.metadata.items():
            known = texts.setdefault(name, [])
            if text not in known:
                known.append(text)
    return {name: "; ".join(known) for name, known in texts.items() if name not in channels.IDENTITY}


def _attachments(sources: Sequence[Source]) -> dict[str, bytes]:
    """Return the attachments of all; one that differs from another of its name gets that of its recording before it."""
    found: dict[str, bytes] = {}
    for source in sources:
        for name, data in source.recording.attachments.items():
            if found.setdefault(name, data) != data:
                found[f"{source.recording.path.stem}/{name}"] = data
    return found
