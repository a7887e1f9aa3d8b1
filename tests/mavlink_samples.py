"""What the MAVLink tests share: answers of a pipeline, and a decoder of frames that owes nothing to pymavlink."""

import struct
from collections import Counter
from typing import Any, NamedTuple

from edge.mavlink.geometry.camera import CameraConfig
from edge.mavlink.ports.transport import TransportCounts
from edge.transport.messages import Classification, Kind, ModalityAnswer, PipelineStatus, StreamAccounting, pack
from edge.transport.wire import Stamp, encode_bytes

SHA256 = "0badc0de" + "00" * 28
MODEL_ID = 0x0BADC0DE
LABELS = ("empty", "drone", "bird")
CLASSIFICATION = "<QIIiiiI4H4H4H4HHHHBBB4H16s"
"""Payload of message 61200, as the wire has it."""


class Frame(NamedTuple):
    """A MAVLink 2 frame, taken apart."""

    sequence: int
    system_id: int
    component_id: int
    message_id: int
    payload: bytes


def crc16(data: bytes) -> int:
    """Return CRC-16/MCRF4XX."""
    crc = 0xFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x8408 if crc & 1 else 0)
    return crc


def encode_frame(frame: Frame, crc_extra: int) -> bytes:
    """Return the bytes of a frame, trailing zeros of the payload cut."""
    payload = frame.payload.rstrip(b"\0") or b"\0"
    numbers = (0xFD, len(payload), 0, 0, frame.sequence, frame.system_id, frame.component_id)
    head = struct.pack("<7B", *numbers) + frame.message_id.to_bytes(3, "little")
    return head + payload + struct.pack("<H", crc16(head[1:] + payload + bytes([crc_extra])))


def decode_frame(data: bytes, crc_extra: int, size: int) -> Frame:
    """Return a frame, its payload filled up with zeros to `size`; raise ValueError where it is damaged."""
    if data[0] != 0xFD or len(data) != data[1] + 12 or data[2]:
        raise ValueError(f"not one whole unsigned MAVLink 2 frame: {data.hex()}")
    if crc16(data[1:-2] + bytes([crc_extra])) != int.from_bytes(data[-2:], "little"):
        raise ValueError(f"wrong CRC: {data.hex()}")
    return Frame(data[4], data[5], data[6], int.from_bytes(data[7:10], "little"), data[10:-2].ljust(size, b"\0"))


def modality(name: str, **changes: Any) -> ModalityAnswer:
    """Return a modality that took part."""
    values = {"mask": 1.0, "weight": 0.5, "entropy": 0.25, "class_id": 1, "confidence": 0.8, "capture_ns": 900_000_000}
    return ModalityAnswer(name=name, **(values | changes))


def missing(name: str, reason: str = "silent") -> ModalityAnswer:
    """Return a modality that did not."""
    return ModalityAnswer(name=name, mask=0.0, reason=reason)


def answer(**changes: Any) -> Classification:
    """Return an answer of a pipeline with radio and camera."""
    values: dict[str, Any] = {
        "sequence": 7,
        "capture_ns": 900_000_000,
        "answer_ns": 904_000_000,
        "class_id": 1,
        "label": "drone",
        "confidence": 0.75,
        "probs": (0.05, 0.75, 0.2),
        "modalities": (modality("iq", stream="radio"), modality("image", stream="front")),
        "latency_ms": {"total": 3.0},
    }
    return Classification(**(values | changes))


def no_data(**changes: Any) -> Classification:
    """Return the answer of a pipeline without input."""
    blank = {"class_id": -1, "label": "NO_DATA", "confidence": 0.0, "probs": (), "latency_ms": {}}
    return answer(**(blank | {"modalities": (missing("iq"), missing("image"))} | changes))


def accounting(**changes: Any) -> StreamAccounting:
    """Return the accounting of a stream that lost one message in each way."""
    values: dict[str, Any] = {
        "received": 105, "processed": 100, "superseded": 1, "dropped_late": 1, "shed": 1, "rejected": {"frozen": 1},
        "in_flight": 1, "lost_transport": 1, "state": "live",
    }  # fmt: skip
    return StreamAccounting(**(values | changes))


def status(**changes: Any) -> PipelineStatus:
    """Return a status of that pipeline."""
    values: dict[str, Any] = {
        "time_ns": 1_000_000_000,
        "results": 10,
        "streams": {"radio": accounting(), "camera": accounting()},
        "model": "demo-1",
        "bundle_sha256": SHA256,
        "labels": LABELS,
    }
    return PipelineStatus(**(values | changes))


def on_wire(message: Classification | PipelineStatus, flags: int = 0) -> tuple[bytes, bytes]:
    """Return the message as it comes over the results socket."""
    kind = Kind.CLASSIFICATION if isinstance(message, Classification) else Kind.STATUS
    return encode_bytes(kind, Stamp(0, 1, 0, 0, 0, flags), pack(message))


class FakeTransport:
    """Keeps what is sent, and hands out what it is given."""

    name = "fake"
    is_open = True

    def __init__(self) -> None:
        self.counts = TransportCounts()
        self.sent: list[bytes] = []
        self.incoming: list[tuple[str, bytes]] = []
        self.welcomed: dict[str, bool] = {}

    def send(self, frame: bytes) -> None:
        self.sent.append(frame)

    def receive(self) -> list[tuple[str, bytes]]:
        taken, self.incoming = self.incoming, []
        return taken

    def wait(self, timeout_s: float) -> None:
        pass

    def reopen(self) -> None:
        pass

    def welcome(self, peer: str, *, is_proven: bool) -> None:
        self.welcomed[peer] = is_proven

    def close(self) -> None:
        pass


def names(messages: list[Any]) -> Counter[str]:
    """Return how many messages there are of each name."""
    return Counter(message.get_type() for message in messages)


def camera(**changes: Any) -> CameraConfig:
    """Return a deployment's camera, which looks ahead and half down."""
    values: dict[str, Any] = {
        "stream": "front", "size_px": (640, 480), "field_of_view_deg": 60.0, "mount_deg": (0.0, -45.0, 0.0),
    }  # fmt: skip
    return CameraConfig(**(values | changes))
