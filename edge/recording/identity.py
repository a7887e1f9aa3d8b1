"""What the channels of a file carry, as far as this program can tell."""

import logging
from dataclasses import dataclass
from pathlib import Path

from edge.recording import channels
from edge.recording.chunk_reader import Contents
from edge.transport.messages import TOPICS, Kind
from models.errors import RecordingError

log = logging.getLogger(__name__)

_MAX_TIME_NS = (1 << 63) - 1
_MAX_TEXT = 80


@dataclass(frozen=True, kw_only=True, slots=True)
class Channel:
    """What a channel of the file carries."""

    kind: Kind
    stream: str
    utc_offset_ns: int
    version: int
    """Format in which its messages are stored."""
    every: int
    """One in so many messages was meant to be recorded."""
    about: dict[str, str]
    """Its metadata."""


def identify_all(path: Path, contents: Contents, used: list[int]) -> tuple[dict[int, Channel], dict[str, str]]:
    """Return the channels by number, and why others cannot be read; RecordingError where none can."""
    known: dict[int, Channel] = {}
    left_out: dict[str, str] = {}
    for number in used:
        try:
            known[number] = _identify(path, contents, number)
        except RecordingError as error:
            if len(used) == 1:
                raise
            channel = contents.channels.get(number)
            left_out[_printable(channel.topic) if channel else f"channel {number}"] = str(error)
    if left_out and not known:
        raise RecordingError("\n".join(list(left_out.values())[:3]))
    for reason in left_out.values():
        log.warning("left out: %s", reason)
    return known, left_out


def _identify(path: Path, contents: Contents, number: int) -> Channel:
    """Return what a channel carries; RecordingError where this program did not write it."""
    channel = contents.channels.get(number)
    schema = contents.schemas.get(channel.schema_id) if channel else None
    if channel is None or schema is None:
        raise RecordingError(f"{path}: channel {number} is not described in the file: record again")
    about = channel.metadata
    topic, schema_name = _printable(channel.topic), _printable(schema.name)
    try:
        version = int(about["format"])
        utc_offset_ns = int(about["utc_offset_ns"])
        every = max(int(about.get("every", "1")), 1)
        kind_name, stream = about["kind"], about["stream"]
        if version < 1 or abs(utc_offset_ns) > _MAX_TIME_NS:
            raise ValueError(f"format {version}, UTC {utc_offset_ns}")
    except (KeyError, ValueError) as error:
        raise RecordingError(
            f"{path}: channel {topic} ({schema_name}) was not recorded by uav-edge:"
            " compose a recording from such data with uav-edge import"
        ) from error
    if version > channels.FORMAT:
        raise RecordingError(
            f"{path}: written in format {version}, this program reads up to {channels.FORMAT}: update it"
        )
    kind = Kind.__members__.get(kind_name)
    if kind is None or not channels.is_schema(kind, schema.name, version):
        raise RecordingError(f"{path}: channel {topic} has the unknown schema {schema_name}: update uav-edge")
    if "{id}" in TOPICS[kind].channel and not channels.is_stream_name(stream):
        raise RecordingError(
            f"{path}: stream {stream[:80]!r}: expected a name of {channels.STREAM_NAME_RULE}: record again with one"
        )
    return Channel(
        kind=kind,
        stream=channels.stream_name(kind, stream),
        utc_offset_ns=utc_offset_ns,
        version=version,
        every=every,
        about=about,
    )


def _printable(text: str) -> str:
    """Return a text from a file as it may be printed on a terminal."""
    return "".join(character if character.isprintable() else "?" for character in text[:_MAX_TEXT])
