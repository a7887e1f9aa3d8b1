"""What a recording says of faults that were injected into its flight on purpose."""

from collections.abc import Sequence

import msgspec

from edge.recording.flight_facts import FAULTS_FILE, INJECTED
from edge.recording.reader import Recording
from edge.transport.messages import Injected, Kind, PipelineStatus
from models.errors import RecordingError


def injected_into(parts: Sequence[Recording]) -> Injected | None:
    """Return the faults that were injected into a recorded flight; None where it was a real one.

    Args:
        parts: files of one flight, in the order of time. A status says best, as it knows when the flight began; then
            what is attached, then the metadata.
    Raises:
        RecordingError: what is attached is not what it should be.
    """
    for part in reversed(parts):
        status = part.last_message(Kind.STATUS)
        if isinstance(status, PipelineStatus) and status.injected.faults:
            return status.injected
    for part in parts:
        if FAULTS_FILE in part.attachments:
            return _attached(part)
    named = next((part.metadata[INJECTED] for part in parts if part.metadata.get(INJECTED)), "")
    return Injected(faults=tuple(named.split())) if named else None


def _attached(part: Recording) -> Injected:
    try:
        return msgspec.json.decode(part.attachments[FAULTS_FILE], type=Injected)
    except msgspec.MsgspecError as error:
        raise RecordingError(
            f"{part.path}: {FAULTS_FILE} is not what it should be ({error}): uav-edge run --fault alone writes it"
        ) from error
