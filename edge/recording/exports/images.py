"""A camera's frames as files: what came encoded as it is, raw frames as PNG, and a table of when each was taken."""

from edge.recording.disk import WholePieces
from edge.recording.exports.csv_file import CsvFile
from edge.recording.exports.task import Task
from edge.transport.messages import Kind
from edge.transport.sensors import decode_frame
from edge.transport.wire import Header, Reason, check_payload
from models.preprocess import opencv

MAX_FRAME_PX = 1 << 28
COLUMNS = ("file", "sequence", "epoch", "capture_ns", "utc")
_ENDINGS = {b"\xff\xd8\xff": ".jpg", b"\x89PN": ".png"}


def write_images(task: Task) -> None:
    """Write STREAM/000000.jpg or .png, and so on, and STREAM.csv."""
    folder = task.folder / task.stream
    folder.mkdir()
    with CsvFile(task.folder / f"{task.stream}.csv", COLUMNS) as table:
        for number, (header, payload) in enumerate(task.sensed()):
            found = _image(header, payload)
            if found is not None:
                ending, data = found
                name = f"{task.stream}/{number:06d}{ending}"
                with WholePieces(task.folder / name) as file:
                    file.write(data)
                table.add((name, *moment(task, header)))
            task.note(found is not None)


def moment(task: Task, header: Header) -> tuple[int, int, int, str]:
    """Return which message this is, and when it was captured: the last of COLUMNS."""
    return header.sequence, header.epoch, header.capture_ns, task.utc(header.capture_ns)


def _image(header: Header, payload: bytes) -> tuple[str, bytes] | None:
    """Return an image file's ending and content, or None where the message holds none."""
    if check_payload(header, payload) is not None:
        return None
    if header.kind == Kind.ENCODED_FRAME:
        ending = _ENDINGS.get(payload[:3])
        return (ending, payload) if ending else None
    frame = decode_frame(header, payload, MAX_FRAME_PX)
    if isinstance(frame, Reason):
        return None
    cv2 = opencv()
    try:
        is_encoded, data = cv2.imencode(".png", frame)
    except cv2.error:  # as of a frame wider than any PNG
        return None
    return (".png", bytes(data)) if is_encoded else None
