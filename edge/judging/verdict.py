"""What is promised of every flight, and what was found of it."""

import dataclasses
from dataclasses import dataclass, field
from typing import Any

PROMISES = {
    "I1": "every message is accounted for, exactly",
    "I2": "no answer is older than max_age_ms or no distribution",
    "I3": "what is degraded is said within 1 s",
    "I4": "2 s after a fault's end the stream is used again",
    "I5": "memory and descriptors return to where they were",
    "I6": "HEARTBEAT never pauses for more than 2.5 s",
    "I7": "the log names each reason once, with the remedy",
}
NOT_RECORDED = {
    "I5": "the memory of a process is not in its messages; uav-edge run --fault and tests/long_flight.py measure it",
    "I6": "MAVLink is not among the messages; uav-edge run --fault measures it",
    "I7": "logs are not among the messages",
}
"""Why some cannot be judged by answers and statuses."""
KEPT_VIOLATIONS = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Violation:
    """One time that a promise was broken."""

    after_s: float
    """Since the beginning of the flight."""
    text: str


@dataclass(slots=True)
class Verdict:
    """What was found of one promise."""

    promise: str
    judged: int = 0
    """How many answers, statuses or faults it was held against."""
    not_judged: str = ""
    """Why it was not, if so."""
    violations: int = 0
    first: list[Violation] = field(default_factory=list)
    """Of the violations the first KEPT_VIOLATIONS."""

    @property
    def word(self) -> str:
        """Return held, violated or not judged."""
        return "violated" if self.violations else "held" if self.judged else "not judged"

    def violate(self, after_s: float, text: str) -> None:
        """Note that it was broken."""
        self.violations += 1
        if len(self.first) < KEPT_VIOLATIONS:
            self.first.append(Violation(after_s=round(after_s, 3), text=text))


@dataclass(frozen=True, slots=True)
class Judgement:
    """What was found of every promise."""

    verdicts: dict[str, Verdict]
    """I1 to I7."""

    @property
    def has_held(self) -> bool:
        """Whether nothing was broken."""
        return not any(verdict.violations for verdict in self.verdicts.values())

    def worse(self, other: "Judgement") -> "Judgement":
        """Return the worse of two judgements of one flight, promise by promise; one that was judged beats one not."""
        return Judgement({name: max(one, other.verdicts[name], key=_weight) for name, one in self.verdicts.items()})

    def as_json(self) -> dict[str, Any]:
        """Return it as values for JSON."""
        return {
            name: {"verdict": verdict.word, **dataclasses.asdict(verdict)} for name, verdict in self.verdicts.items()
        }

    def lines(self) -> list[str]:
        """Return it in lines for people."""
        lines = []
        for name, verdict in self.verdicts.items():
            why = f" ({verdict.not_judged})" if verdict.word == "not judged" else ""
            lines.append(f"{name} {verdict.word}: {verdict.promise}{why}")
            lines += [f"   after {broken.after_s:.3f} s: {broken.text}" for broken in verdict.first]
            if verdict.violations > len(verdict.first):
                lines.append(f"   and {verdict.violations - len(verdict.first)} more")
        return lines


def _weight(verdict: Verdict) -> tuple[int, int]:
    return verdict.violations, verdict.judged
