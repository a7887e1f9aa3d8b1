"""What is still called the same, and what is left out of the judgement, with the reason."""

import math
from pathlib import Path

import msgspec

from models.schema import load_yaml

MOST_IGNORED = 5
FAMILIES = (
    "accuracy",
    "changed_share",
    "missing_share",
    "new_share",
    "confidence_change",
    "latency_p99_ms",
    "no_data_share",
    "masked_share",
    "unused_share",
    "unaccounted",
    "promises",
    "wall_s",
)
"""Of figures: the part of a name before the first dot."""


class Ignored(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A figure that is shown, but not judged."""

    field: str
    """Its name, such as `accuracy.image`."""
    reason: str
    """Why: a sentence for who reads the report."""

    def __post_init__(self) -> None:
        if not self.reason.strip():
            raise ValueError(f"{self.field}: the reason is empty: say why it does not count")
        family = self.field.split(".")[0]
        if family not in FAMILIES:
            raise ValueError(f"{self.field}: no such figure: its name begins with one of {', '.join(FAMILIES)}")
        if "*" in self.field:
            raise ValueError(f"{self.field}: expected one figure's name: nobody can tell how many this switches off")


class Tolerances(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much worse a figure may be; shares are of 0 to 1, and a change by as much as is said is still let go."""

    accuracy_drop: float = 0.02
    """Of a flight: the share of right answers, fused and of each modality alone."""
    accuracy_drop_in_sum: float = 0.005
    """The same over all flights."""
    changed_share: float = 0.1
    """Of a flight's answers, other ones than before, for better or worse."""
    changed_share_in_sum: float = 0.05
    missing_share: float = 0.01
    """Of the old answers, no longer given."""
    new_share: float = 0.01
    """Of the new answers, not given before."""
    confidence_change: float = 1.0
    """Largest difference of a confidence where the answer stayed the same; 1 lets all go."""
    latency_growth: float = 0.1
    """Of the p99 from message to answer, over what it was; in the virtual time of exact replay."""
    no_data_growth: float = 0.0
    """More of the answers are NO_DATA."""
    masked_growth: float = 0.01
    """More of the answers are without a modality."""
    unused_growth: float = 0.01
    """More of a stream's messages are superseded, late, shed or rejected."""
    wall_growth: float | None = None
    """Of the time that all replays took, over what it was; not judged unless it is said, as other programs count."""
    ignore: tuple[Ignored, ...] = ()
    """At most five."""

    def __post_init__(self) -> None:
        for field in self.__struct_fields__:
            value = getattr(self, field)
            if isinstance(value, float | int) and not (value >= 0 and math.isfinite(value)):
                raise ValueError(f"{field} is {value}: expected 0 or more")
        if len(self.ignore) > MOST_IGNORED:
            raise ValueError(
                f"{len(self.ignore)} figures are ignored: at most {MOST_IGNORED}, or nobody knows any more what is"
                " judged; widen a tolerance instead"
            )


def read_tolerances(path: Path | None) -> Tolerances:
    """Return what a YAML file says, or the defaults; ConfigError where it does not fit."""
    return load_yaml(path, Tolerances) if path is not None else Tolerances()
