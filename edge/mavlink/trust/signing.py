"""Signatures of MAVLink 2: who sent a frame, and that it is not an old one. No clock, no file: times come in, out.

A signed frame ends with a link id, a time of 48 bits in steps of 10 us since 2015, and the first 48 bits of the SHA-256
of key, frame, link id and time. pymavlink notes the time of a frame before it looks at the hash, so that one forged
frame shuts out its peer for ever, and it forgets all times at its end. Here the hash comes first, and one number on
disk is enough for the rest: after a restart nothing counts whose time is not later than everything seen before.
A peer whose clock is slower than ours is shut out by that until it hears us, which by the standard sets its clock on.
"""

import enum
import hashlib
import hmac
from collections.abc import Callable

from edge.mavlink.wire.frames import MARKER_V2, SIGNATURE_BYTES, SIGNED

KEY_BYTES = 32
TAG_BYTES = 6
UNIT_NS = 10_000
EPOCH_NS = 1_420_070_400_000_000_000
"""2015-01-01 UTC, in Unix time."""
UNITS_PER_S = 1_000_000_000 // UNIT_NS
WINDOW = 60 * UNITS_PER_S
"""A peer that was not heard before may be so far behind us."""
MARGIN = 15 * UNITS_PER_S
"""What is accepted is at most so far ahead of what is on disk, and a start after a crash adds it."""
LATEST = 2**48 - 1 - 366 * 86_400 * UNITS_PER_S
"""Nobody is followed to where times end: nothing later could be signed any more."""
MAX_STREAMS = 64
"""Beyond, one that was silent for longer than WINDOW is forgotten: its old frames do not count as a new one's."""


class Refusal(enum.Enum):
    """Why a frame does not count."""

    UNSIGNED = "unsigned"
    NO_KEY = "no_key"
    WRONG_SIGNATURE = "wrong_signature"
    REPLAYED = "replayed"
    TOO_OLD = "too_old"
    TOO_LATE = "too_late"
    NOT_SAVED = "not_saved"
    CROWDED = "crowded"
    OURS = "ours"
    NOT_ALLOWED = "not_allowed"
    SETUP_SIGNING = "setup_signing"


class Signing:
    """One key, on all links that share it: signs our frames, and checks those of others. For one thread.

    Args:
        secret: 32 bytes.
        utc_ns: tells Unix time; it may be wrong, and jump.
        saved: the newest time that was on disk at the start, None where nothing was.
        is_clean: whether that was written at an orderly end.
    """

    def __init__(self, secret: bytes, utc_ns: Callable[[], int], saved: int | None = None, *, is_clean: bool) -> None:
        self._keyed = hashlib.sha256(secret)
        self._utc_ns = utc_ns
        self._floor = 0 if saved is None else saved if is_clean else saved + MARGIN
        self._newest = max(self._now(), self._floor)
        self._saved = self._newest
        self._streams: dict[tuple[int, int, int], int] = {}

    @property
    def newest(self) -> int:
        """The latest time that was signed or accepted; to be on disk before a restart."""
        return self._newest

    @property
    def needs_saving(self) -> bool:
        """Whether the time on disk falls so far behind that frames would soon be refused for it."""
        return self._newest > self._saved + MARGIN // 2

    def note_saved(self, newest: int) -> None:
        """Take notice that this time is on disk."""
        self._saved = max(self._saved, newest)

    def signature(self, frame: bytes, link_id: int) -> bytes:
        """Return what follows a frame of ours whose flags announce it, see `Encoder.frame`."""
        self._newest = max(self._newest + 1, self._now())
        head = bytes((link_id,)) + self._newest.to_bytes(6, "little")
        return head + self._tag(frame + head)

    def check(self, frame: bytes) -> Refusal | None:
        """Return why a frame with a right CRC does not count, None where it does; it then counts once."""
        if not is_signed(frame):
            return Refusal.UNSIGNED
        if not hmac.compare_digest(self._tag(frame[:-TAG_BYTES]), frame[-TAG_BYTES:]):
            return Refusal.WRONG_SIGNATURE
        time = int.from_bytes(frame[-12:-TAG_BYTES], "little")
        stream = (frame[-SIGNATURE_BYTES], frame[5], frame[6])
        refusal = self._untimely(stream, time)
        if refusal in (None, Refusal.NOT_SAVED):
            self._newest = max(self._newest, time)
        if refusal is None:
            self._streams[stream] = time
        return refusal

    def _untimely(self, stream: tuple[int, int, int], time: int) -> Refusal | None:
        last = self._streams.get(stream)
        if last is not None and time <= last:
            return Refusal.REPLAYED
        if time <= self._floor or (last is None and time < self._newest - WINDOW):
            return Refusal.TOO_OLD
        if time > LATEST:
            return Refusal.TOO_LATE
        if last is None and len(self._streams) >= MAX_STREAMS and not self._forget_one():
            return Refusal.CROWDED
        return Refusal.NOT_SAVED if time > self._saved + MARGIN else None

    def _forget_one(self) -> bool:
        """Forget the stream that was silent for longest, if all it ever sent would be too old for a new one."""
        oldest = min(self._streams, key=self._streams.__getitem__)
        is_past = self._streams[oldest] < self._newest - WINDOW
        if is_past:
            del self._streams[oldest]
        return is_past

    def _tag(self, signed: bytes) -> bytes:
        hashed = self._keyed.copy()
        hashed.update(signed)
        return hashed.digest()[:TAG_BYTES]

    def _now(self) -> int:
        return min(max((self._utc_ns() - EPOCH_NS) // UNIT_NS, 0), LATEST)


def is_signed(frame: bytes) -> bool:
    """Say whether a frame carries a signature, of whatever worth."""
    return frame[0] == MARKER_V2 and bool(frame[2] & SIGNED)
