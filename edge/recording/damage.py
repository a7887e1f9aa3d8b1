"""What of a recording cannot be read, and where that was."""

from collections import Counter
from dataclasses import dataclass, field


@dataclass(kw_only=True, slots=True)
class Loss:
    """A stretch of a file that cannot be read, between two sound chunks."""

    sound_chunks_before: int
    offset: int
    """Where in the file it begins."""
    skipped_bytes: int = 0
    messages: Counter[int] = field(default_factory=Counter)
    """Lost at least, by channel: what the indexes of bad chunks tell."""


@dataclass(kw_only=True, slots=True)
class Damage:
    """What of a recording cannot be read."""

    is_truncated: bool = False
    """It has no end: the recorder was killed, or the file cut."""
    bad_chunks: int = 0
    """Chunks whose checksum or structure is wrong, or that unpack to more than is accepted."""
    losses: list[Loss] = field(default_factory=list)
    """In the order of the file; at most one more than there are sound chunks."""

    @property
    def skipped_bytes(self) -> int:
        """Bytes of bad chunks, of messages outside chunks (unvouched for), and where no record was made out."""
        return sum(loss.skipped_bytes for loss in self.losses)

    @property
    def lost_messages(self) -> int:
        """Messages in bad chunks, as far as their indexes tell: at least so many are lost."""
        return sum(loss.messages.total() for loss in self.losses)

    @property
    def is_damaged(self) -> bool:
        """Whether anything is missing."""
        return self.is_truncated or bool(self.losses)

    def add(self, sound_chunks_before: int, start: int, end: int) -> None:
        """Note that the bytes from `start` to `end` cannot be read."""
        if not self.losses or self.losses[-1].sound_chunks_before != sound_chunks_before:
            self.losses.append(Loss(sound_chunks_before=sound_chunks_before, offset=start))
        self.losses[-1].skipped_bytes += end - start

    def __str__(self) -> str:
        if not self.is_damaged:
            return "none"
        end = "no end (recorder killed, or file cut), " if self.is_truncated else ""
        return (
            f"{end}{self.bad_chunks} bad chunks, {self.skipped_bytes} bytes skipped,"
            f" at least {self.lost_messages} messages lost"
        )
