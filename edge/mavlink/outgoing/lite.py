"""Classifications in 19 bytes: FUSION_CLASSIFICATION_LITE, made of the whole ones, and what a received one says."""

import copy
from dataclasses import dataclass
from typing import Any

from edge.mavlink.wire import codec, dialect
from edge.mavlink.wire.codec import Flag

HUNDRED = 100
US_PER_MS = 1_000
_WRAP_MS = 2**32


@dataclass(frozen=True, kw_only=True, slots=True)
class LiteReport:
    """A classification as far as FUSION_CLASSIFICATION_LITE carries it."""

    time_ms: int
    """The lowest 32 bits of the capture time in ms, see `whole_time_us`."""
    sequence: int
    """The lowest 8 bits."""
    class_id: int
    """-1 when there is no answer."""
    confidence: float | None
    count: int
    """Answers that it stands for."""
    flags: Flag
    present: int
    """Bit n: modality n took part."""
    position: codec.Position | None
    """Without an altitude."""


def marked(message: Any, flag: Flag) -> Any:
    """Return a classification, whole or lite, with one more flag; the one that came in stays as it is."""
    changed = copy.copy(message)
    changed.flags = message.flags | int(flag)
    return changed


def lite_of(message: Any, count: int = 1) -> Any:
    """Return FUSION_CLASSIFICATION_LITE of a FUSION_CLASSIFICATION that stands for so many answers.

    A warning that has no room in its flags becomes REPLAY: not of a real flight.
    """
    share = message.confidence[0]
    return dialect.MAVLink_fusion_classification_lite_message(
        time_boot_ms=message.time_usec // US_PER_MS % _WRAP_MS,
        lat=message.lat,
        lon=message.lon,
        class_id=message.class_id[0],
        sequence=message.sequence % 256,
        confidence=codec.UINT8_MAX if share == codec.UINT16_MAX else round(min(share / codec.SHARES, 1.0) * HUNDRED),
        modality_present=message.modality_present,
        count=min(max(count, 1), codec.UINT8_MAX),
        flags=message.flags & codec.UINT8_MAX | (Flag.REPLAY if message.flags > codec.UINT8_MAX else 0),
    )


def lite_report(message: Any) -> LiteReport:
    """Return what a received FUSION_CLASSIFICATION_LITE says."""
    is_placed = codec.INT32_MAX not in (message.lat, message.lon)
    return LiteReport(
        time_ms=message.time_boot_ms,
        sequence=message.sequence,
        class_id=-1 if message.class_id == codec.UINT16_MAX else message.class_id,
        confidence=None if message.confidence == codec.UINT8_MAX else message.confidence / HUNDRED,
        count=message.count,
        flags=Flag(message.flags),
        present=message.modality_present,
        position=codec.Position(message.lat / 1e7, message.lon / 1e7, None) if is_placed else None,
    )


def whole_time_us(time_ms: int, later_us: int) -> int:
    """Return the time of a LITE record, given a later one of the same sender in the same time base.

    Args:
        time_ms: the lowest 32 bits of ms.
        later_us: at most 49 days later.
    """
    later_ms = later_us // US_PER_MS
    return (later_ms - (later_ms - time_ms) % _WRAP_MS) * US_PER_MS
