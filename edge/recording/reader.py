"""Opens recorded flights, also those that a crash or a bad disk cut short, and plays their events back in order."""

import collections
import copy
import dataclasses
import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from edge.recording import channels
from edge.recording.chunk_reader import MESSAGE_TIMES_BYTES, Contents, read_contents, unpack_chunk
from edge.recording.damage import Damage
from edge.recording.identity import Channel, identify_all
from edge.transport.messages import Kind, Message
from edge.transport.wire import Header
from models.errors import ConfigError, RecordingError

log = logging.getLogger(__name__)

_CHUNKS_HELD = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """One recorded message; times are in the recording's own monotonic base."""

    log_ns: int
    """When the recorder received it."""
    kind: Kind
    stream: str
    """The sensor's stream; for the rest the topic: classification, status, pose, truth, mavlink/rx, mavlink/tx."""
    header: Header | None
    """Of sensor messages, as it came over the wire."""
    payload: bytes
    """Of sensor messages and MAVLink, as it came over the wire."""
    message: Message | None
    """Of the other kinds."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StreamSummary:
    """What a recording holds of one stream."""

    kind: Kind
    modality: str
    """`iq` or `image` by the kind of message; empty for what is no sensor's."""
    count: int
    missing: int
    """Gaps in the sequence numbers: sent, but not in this recording. Restarts of a source are not gaps."""
    every: int
    """One in so many was meant to be recorded."""
    stored_bytes: int
    first_ns: int
    last_ns: int

    @property
    def rate_hz(self) -> float:
        """Messages a second, as received; 0 for fewer than two."""
        span_ns = self.last_ns - self.first_ns
        return (self.count - 1) * 1e9 / span_ns if span_ns else 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Gap:
    """A stretch of a recording that cannot be read any more."""

    begin_ns: int | None
    """When the last message before it was received; None where it begins the file."""
    end_ns: int | None
    """When the first message behind it was received; None where it ends the file."""
    skipped_bytes: int
    messages: dict[str, int]
    """Lost at least, by stream; empty where nothing tells."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Stored:
    """One message as it lies in the file."""

    channel: Channel
    sequence: int
    log_time_ns: int
    """UTC."""
    publish_time_ns: int
    """UTC."""
    data: memoryview


class Recording:
    """A recorded flight; made by `open_recording`."""

    def __init__(self, path: Path, contents: Contents) -> None:
        self._path = path
        self._contents = contents
        index = contents.index()
        self._channels, self.left_out = identify_all(path, contents, np.unique(index[:, 1]).tolist())
        self._index = index[np.isin(index[:, 1], list(self._channels))] if self.left_out else index
        self.streams: dict[str, StreamSummary] = self._summarise()
        """By name, sensors and topics alike. `left_out`: channels that this program cannot read, and why."""
        self.names = {name: name for name, stream in self.streams.items() if stream.modality}
        """What sensors' streams are called, by the names under which they were recorded: see `renamed`."""
        self.whole = self
        """What this is a part of: the recording itself, unless `part` made it."""

    @property
    def path(self) -> Path:
        """The file."""
        return self._path

    @property
    def metadata(self) -> dict[str, str]:
        """Texts about the flight."""
        return self._contents.metadata.get(channels.METADATA_NAME, {})

    @property
    def attachments(self) -> dict[str, bytes]:
        """Attached files by name."""
        return self._contents.attachments

    @property
    def damage(self) -> Damage:
        """What cannot be read of it."""
        return self._contents.damage

    @property
    def utc_offset_ns(self) -> int:
        """UTC minus the recording's own clock; 0 without events."""
        return next((channel.utc_offset_ns for channel in self._channels.values()), 0)

    @property
    def start_ns(self) -> int:
        """When the first event was received; 0 without events."""
        return min((stream.first_ns for stream in self.streams.values()), default=0)

    @property
    def duration_ns(self) -> int:
        """From the first event to the last."""
        return max((stream.last_ns for stream in self.streams.values()), default=0) - self.start_ns

    @property
    def event_count(self) -> int:
        """How many events `events` yields."""
        return len(self._index)

    def part(self, begin_ns: int | None, end_ns: int | None) -> "Recording":
        """Return what was received from `begin_ns` on, before `end_ns`, as a recording; its damage is the whole file's.

        Raises:
            ConfigError: nothing was.
        """
        part = copy.copy(self)
        part._index = self._rows(None, begin_ns, end_ns)
        if not len(part._index):
            raise ConfigError(f"{self.path}: nothing in this part: it lasts {self.duration_ns / 1e9:.3f} s")
        held = set(np.unique(part._index[:, 1]).tolist())
        part._channels = {number: channel for number, channel in self._channels.items() if number in held}
        part.streams = part._summarise()
        return part

    def renamed(self, names: Mapping[str, str]) -> "Recording":
        """Return the recording with other names of sensors' streams, by their old ones.

        Raises:
            ConfigError: there is no such stream, the name is none for a stream, or two would have the same.
        """
        sensors = [name for name, stream in self.streams.items() if stream.modality]
        for old, new in names.items():
            if old not in sensors:
                raise ConfigError(f"{self.path}: no stream {old}: it has {', '.join(sensors) or 'none'}")
            if not channels.is_stream_name(new):
                raise ConfigError(f"stream {new!r}: expected {channels.STREAM_NAME_RULE}")
        called = collections.Counter(names.get(name, name) for name in sensors)
        for new in (new for new, count in called.items() if count > 1):
            raise ConfigError(f"{self.path}: two streams would be called {new}: rename the other one as well")
        other = copy.copy(self)
        other._channels = {
            number: dataclasses.replace(channel, stream=names.get(channel.stream, channel.stream))
            for number, channel in self._channels.items()
        }
        other.streams = other._summarise()
        other.names = {recorded: names.get(name, name) for recorded, name in self.names.items()}
        return other

    def events(self, streams: Collection[str] | None = None) -> Iterator[Event]:
        """Yield every event, or those of some streams, ordered by time of reception, then channel, then sequence.

        Raises:
            RecordingError: a message is not what its channel says.
        """
        for stored in self.stored(streams):
            yield self.decode(stored)

    def count(self, streams: Collection[str] | None, begin_ns: int | None = None, end_ns: int | None = None) -> int:
        """Return how many messages `stored` yields."""
        return len(self._rows(streams, begin_ns, end_ns))

    def stored(
        self, streams: Collection[str] | None = None, begin_ns: int | None = None, end_ns: int | None = None
    ) -> Iterator[Stored]:
        """Yield messages as they are stored, in the order of `events`; received from `begin_ns` on, before `end_ns`."""
        held: collections.OrderedDict[int, bytes] = collections.OrderedDict()
        index = self._rows(streams, begin_ns, end_ns)
        with self._path.open("rb") as file:
            for log_time_ns, number, sequence, chunk, offset, size in map(np.ndarray.tolist, index):
                data = memoryview(self._chunk(file, chunk, held))
                times = data[offset - MESSAGE_TIMES_BYTES : offset]
                yield Stored(
                    channel=self._channels[number],
                    sequence=sequence,
                    log_time_ns=log_time_ns,
                    publish_time_ns=int.from_bytes(times[8:], "little"),
                    data=data[offset : offset + size],
                )

    def decode(self, stored: Stored) -> Event:
        """Return a stored message as an event; RecordingError where it is not what its channel says."""
        return self._decode(stored.channel, stored.log_time_ns, stored.data)

    def gaps(self) -> list[Gap]:
        """Return what cannot be read any more, in the order of the file."""
        first, last = self._chunk_times()
        found = []
        for loss in self.damage.losses:
            before, after = loss.sound_chunks_before - 1, loss.sound_chunks_before
            messages: collections.Counter[str] = collections.Counter()
            for number, count in loss.messages.items():
                known = self._channels.get(number)
                messages[known.stream if known else f"channel {number}"] += count
            gap = Gap(
                begin_ns=last.get(before),
                end_ns=first.get(after),
                skipped_bytes=loss.skipped_bytes,
                messages=dict(messages),
            )
            found.append(gap)
        return found

    def steps_back(self) -> dict[str, int]:
        """Return how often a stream's time went backwards in the order of writing; only streams where it did."""
        rows = np.frombuffer(self._contents.rows, dtype=np.uint64).reshape(-1, self._index.shape[1])
        found: dict[str, int] = {}
        for number, channel in self._channels.items():
            times = rows[rows[:, 1] == number, 0]
            steps = int((times[1:] < times[:-1]).sum())
            if steps:
                found[channel.stream] = found.get(channel.stream, 0) + steps
        return found

    def arrivals(self, stream: str) -> NDArray[np.int64]:
        """Return (messages, 2): when each message of a stream was received, UTC in ns, and its sequence number."""
        return self._rows({stream}, None, None)[:, [0, 2]].astype(np.int64)

    def event(self, place: int) -> Event:
        """Return one event by its place in the order of `events`, from 0; at the cost of reading its chunk.

        Raises:
            RecordingError: the message is not what its channel says, or the file is gone.
        """
        log_time_ns, number, _, chunk, offset, size = self._index[place].tolist()
        try:
            with self._path.open("rb") as file:
                data = unpack_chunk(file, self._contents.chunks[chunk])
        except OSError as error:
            raise RecordingError(f"{self._path}: cannot be read any more ({error.strerror}): put it back") from error
        return self._decode(self._channels[number], log_time_ns, memoryview(data)[offset : offset + size])

    def last_message(self, kind: Kind) -> Message | None:
        """Return the last message of a kind that is no sensor's; None where there is none.

        Raises:
            RecordingError: as `event`.
        """
        numbers = [number for number, channel in self._channels.items() if channel.kind == kind]
        places = np.flatnonzero(np.isin(self._index[:, 1], numbers))
        return self.event(int(places[-1])).message if len(places) else None

    def _chunk(self, file: BinaryIO, chunk: int, held: "collections.OrderedDict[int, bytes]") -> bytes:
        if chunk not in held:
            held[chunk] = unpack_chunk(file, self._contents.chunks[chunk])
            if len(held) > _CHUNKS_HELD:
                held.popitem(last=False)
        return held[chunk]

    def _rows(self, streams: Collection[str] | None, begin_ns: int | None, end_ns: int | None) -> NDArray[np.uint64]:
        """Return the part of the index with some streams, from a time on, and before another."""
        index, times = self._index, self._index[:, 0]
        taken = np.ones(len(index), dtype=bool)
        if streams is not None:
            numbers = [number for number, channel in self._channels.items() if channel.stream in streams]
            taken &= np.isin(index[:, 1], numbers)
        if begin_ns is not None:
            taken &= times >= _uint64(begin_ns + self.utc_offset_ns)
        if end_ns is not None:
            taken &= times < _uint64(end_ns + self.utc_offset_ns)
        return index[taken]

    def _chunk_times(self) -> tuple[dict[int, int], dict[int, int]]:
        """Return when the first and the last message of each chunk were received."""
        rows = self._index[np.argsort(self._index[:, 3], kind="stable")]  # by time within each chunk
        numbers, begins = np.unique(rows[:, 3], return_index=True)
        ends = np.append(begins[1:], len(rows)) - 1
        own_ns = self.utc_offset_ns
        first, last = (
            {n: at - own_ns for n, at in zip(numbers.tolist(), rows[places, 0].tolist(), strict=True)}
            for places in (begins, ends[: len(numbers)])
        )
        return first, last

    def _decode(self, channel: Channel, log_time_ns: int, data: memoryview) -> Event:
        kind = channel.kind
        log_ns = log_time_ns - channel.utc_offset_ns
        header: Header | None = None
        payload = b""
        message: Message | None = None
        try:
            if kind in channels.SENSOR_KINDS:
                header, payload = channels.decode_sensor(kind, data, channel.version)
            elif kind == Kind.MAVLINK:
                payload = bytes(data)
            else:
                message = channels.decode_message(kind, data)
        except RecordingError as error:
            raise RecordingError(
                f"{self._path}: stream {channel.stream} at {log_ns} ns: {error}: record with this version"
            ) from error
        return Event(log_ns=log_ns, kind=kind, stream=channel.stream, header=header, payload=payload, message=message)

    def _summarise(self) -> dict[str, StreamSummary]:
        numbers_of: dict[str, list[int]] = {}
        for number, channel in self._channels.items():
            numbers_of.setdefault(channel.stream, []).append(number)
        return {stream: self._summary(numbers) for stream, numbers in numbers_of.items()}

    def _summary(self, numbers: list[int]) -> StreamSummary:
        """Summarise the channels of one stream (two where its source changed between raw and encoded frames)."""
        channel = self._channels[numbers[0]]
        rows = self._index[np.isin(self._index[:, 1], numbers)]
        steps = np.diff(rows[:, 2].astype(np.int64)) // channel.every
        first_ns, last_ns = rows[[0, -1], 0].tolist()
        return StreamSummary(
            kind=channel.kind,
            modality=channels.MODALITY_HINTS.get(channel.kind, ""),
            count=len(rows),
            missing=int((steps[steps > 1] - 1).sum()),
            every=channel.every,
            stored_bytes=int(rows[:, 5].sum()),
            first_ns=first_ns - channel.utc_offset_ns,
            last_ns=last_ns - channel.utc_offset_ns,
        )


def open_recording(path: Path, watch: Callable[[int], None] = lambda _: None) -> Recording:
    """Open a recorded flight. The whole file is read once: chunks with a wrong checksum are left out and counted.

    Args:
        path: the file.
        watch: told how many bytes of it lie behind, for a progress bar.

    Raises:
        RecordingError: not readable, not a recording of this program, made by a newer one, or nothing in it is sound.
    """
    try:
        with path.open("rb") as file:
            contents = read_contents(file, str(path), watch)
    except OSError as error:
        raise RecordingError(f"{path}: cannot be read ({error.strerror}): name an existing recording") from error
    if not contents.rows and (contents.damage.skipped_bytes or channels.METADATA_NAME not in contents.metadata):
        raise RecordingError(f"{path}: holds no readable message (damage: {contents.damage}): record again")
    return Recording(path, contents)


def _uint64(value: int) -> np.uint64:
    """Return the nearest number that the index could hold, whatever times a file claims."""
    nearest: np.uint64 = np.uint64(min(max(value, 0), (1 << 64) - 1))
    return nearest
