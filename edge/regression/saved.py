"""Outcomes in a file, which stand for the old model where nobody has its bundle any more."""

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import msgspec

from edge.regression.outcome import Answer, Outcome
from models.disk import write_whole
from models.errors import InputError

_DIGITS = 4
"""Of a saved confidence: processors round the rest otherwise."""


class Saved(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a model answered to some flights."""

    schema: Literal["uav-edge-regress-1"] = "uav-edge-regress-1"
    model: str
    bundle_sha256: str
    flights: dict[str, Outcome]
    """By name."""


def save(path: Path, outcomes: Iterable[Outcome]) -> None:
    """Write outcomes of one model; the same outcomes make the same file.

    Raises:
        RecordingError: it cannot be written.
    """
    rounded = [_rounded(outcome) for outcome in outcomes]
    saved = Saved(
        model=rounded[0].model,
        bundle_sha256=rounded[0].bundle_sha256,
        flights={outcome.flight: outcome for outcome in rounded},
    )
    write_whole(path, msgspec.json.encode(saved) + b"\n")


def read_saved(path: Path) -> Saved:
    """Read what `save` wrote.

    Raises:
        InputError: it cannot be read, or is something else.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=Saved)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}): name what --save wrote") from error
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: not what --save of this release writes ({error}): save it anew") from error


def _rounded(outcome: Outcome) -> Outcome:
    answers = tuple(
        Answer(one.after_us, one.label, round(one.confidence, _DIGITS), one.truth) for one in outcome.answers
    )
    return msgspec.structs.replace(outcome, answers=answers, wall_s=0.0)
