"""Puts a stored message on another clock, and into the format that is written now."""

import dataclasses

import msgspec

from edge.recording import channels
from edge.recording.reader import Stored
from edge.transport.messages import Classification, Injected, Kind, Message, PipelineStatus, Pose, RecorderStatus, Trace
from edge.transport.wire import Header, encode_header

_MAX_TIME_NS = (1 << 63) - 1


def shifted(stored: Stored, clock_offset_ns: int, utc_offset_ns: int) -> Stored:
    """Return a message for a recording whose clock is another one; the same object where nothing changes.

    Args:
        stored: as it is in its own recording.
        clock_offset_ns: added to all its times.
        utc_offset_ns: UTC minus the other recording's clock.
    Raises:
        RecordingError: the message is not what its channel says.
    """
    shift_ns = stored.channel.utc_offset_ns + clock_offset_ns - utc_offset_ns
    if not shift_ns and not clock_offset_ns and stored.channel.version == channels.FORMAT:
        return stored
    return dataclasses.replace(
        stored,
        log_time_ns=_bounded(stored.log_time_ns + clock_offset_ns),
        publish_time_ns=_bounded(stored.publish_time_ns + clock_offset_ns),
        data=memoryview(_moved(stored, shift_ns, utc_offset_ns)),
    )


def _moved(stored: Stored, shift_ns: int, utc_offset_ns: int) -> bytes:
    """Return the stored bytes with times moved."""
    kind = stored.channel.kind
    if kind == Kind.MAVLINK:
        return bytes(stored.data)
    if kind not in channels.SENSOR_KINDS:
        message = _message_moved(channels.decode_message(kind, stored.data), shift_ns)
        return channels.encode_message(message, utc_offset_ns)
    header, payload = channels.decode_sensor(kind, stored.data, stored.channel.version)
    header = _header_moved(header, shift_ns)
    parts = channels.encode_sensor(stored.channel.stream, header, encode_header(header), payload, utc_offset_ns)
    return b"".join(bytes(part) for part in parts)


def _header_moved(header: Header, shift_ns: int) -> Header:
    return header._replace(capture_ns=_within(header.capture_ns + shift_ns), send_ns=_within(header.send_ns + shift_ns))


def _message_moved(message: Message, shift_ns: int) -> Message:
    if isinstance(message, PipelineStatus):
        injected = _injected_moved(message.injected, shift_ns)
        return msgspec.structs.replace(message, time_ns=message.time_ns + shift_ns, injected=injected)
    if isinstance(message, RecorderStatus):
        return msgspec.structs.replace(message, time_ns=message.time_ns + shift_ns)
    if isinstance(message, Trace):
        return _trace_moved(message, shift_ns)
    if not isinstance(message, Classification):
        return msgspec.structs.replace(message, capture_ns=message.capture_ns + shift_ns)
    modalities = tuple(
        msgspec.structs.replace(one, capture_ns=one.capture_ns + shift_ns) if one.capture_ns else one
        for one in message.modalities
    )
    return msgspec.structs.replace(
        message,
        capture_ns=message.capture_ns + shift_ns,
        answer_ns=message.answer_ns + shift_ns,
        modalities=modalities,
        pose=_pose_moved(message.pose, shift_ns),
    )


def _trace_moved(trace: Trace, shift_ns: int) -> Trace:
    inferences = tuple(
        msgspec.structs.replace(
            one,
            arrived_ns=one.arrived_ns + shift_ns,
            taken_ns=one.taken_ns + shift_ns,
            done_ns=one.done_ns + shift_ns,
        )
        for one in trace.inferences
    )
    since_ns, time_ns = trace.since_ns + shift_ns, trace.time_ns + shift_ns
    return Trace(since_ns=since_ns, time_ns=time_ns, inferences=inferences)


def _injected_moved(injected: Injected, shift_ns: int) -> Injected:
    begin_ns = injected.begin_ns
    return msgspec.structs.replace(injected, begin_ns=begin_ns + shift_ns) if begin_ns else injected


def _pose_moved(pose: Pose | None, shift_ns: int) -> Pose | None:
    return msgspec.structs.replace(pose, capture_ns=pose.capture_ns + shift_ns) if pose is not None else None


def _within(time_ns: int) -> int:
    """Return a time that fits the wire header, whatever a faulty source had claimed."""
    return min(max(time_ns, -_MAX_TIME_NS - 1), _MAX_TIME_NS)


def _bounded(time_ns: int) -> int:
    return min(max(time_ns, 0), _MAX_TIME_NS)
