"""Says for people and for programs what of a recording is lost, and where."""

from typing import Any

from edge.recording.reader import Gap, Recording


def gap_lines(recording: Recording) -> list[str]:
    """Return a line for each stretch that cannot be read, with times from the recording's start."""
    return [_line(gap, recording.start_ns) for gap in recording.gaps()]


def damage_json(recording: Recording) -> dict[str, Any]:
    """Return the same as values for JSON."""
    damage = recording.damage
    return {
        "truncated": damage.is_truncated,
        "bad_chunks": damage.bad_chunks,
        "skipped_bytes": damage.skipped_bytes,
        "lost_messages_at_least": damage.lost_messages,
        "gaps": [
            {
                "from_s": _seconds(gap.begin_ns, recording.start_ns),
                "to_s": _seconds(gap.end_ns, recording.start_ns),
                "skipped_bytes": gap.skipped_bytes,
                "lost_messages_at_least": gap.messages,
            }
            for gap in recording.gaps()
        ],
    }


def _line(gap: Gap, start_ns: int) -> str:
    begin, end = _seconds(gap.begin_ns, start_ns), _seconds(gap.end_ns, start_ns)
    from_text = "lost from the beginning" if begin is None else f"lost from {begin:.3f} s"
    to_text = "to the end" if end is None else f"to {end:.3f} s"
    counts = ", ".join(f"{count} of {name}" for name, count in sorted(gap.messages.items()))
    return f"{from_text} {to_text}: {gap.skipped_bytes} bytes" + (f", at least {counts}" if counts else "")


def _seconds(time_ns: int | None, start_ns: int) -> float | None:
    return None if time_ns is None else (time_ns - start_ns) / 1e9
