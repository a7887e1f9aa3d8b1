"""Twenty virtual minutes of TIMESYNC over a bad link, or less; run as a program it prints how wrong the offset was.

The autopilot's crystal is 50 ppm fast, each way loses packets so that a fifth of all questions stay unanswered, and the
ways out and back take different times.
"""

import argparse
import json
import random
from collections.abc import Callable
from dataclasses import dataclass

from edge.mavlink.place.timesync import NS_PER_MS, NS_PER_S, TimeSync

STEP_NS = 10 * NS_PER_MS
START_NS = 5_000 * NS_PER_S
AUTOPILOT_START_NS = 77 * NS_PER_S
Delays = Callable[[random.Random], tuple[float, float]]
"""Draws the times out and back, in ms."""


def always_asymmetric(draw: random.Random) -> tuple[float, float]:
    """The way back takes 4 ms longer, always, and both jitter: no estimator can see such a bias of 2 ms."""
    return 1 + draw.uniform(0, 2), 5 + draw.uniform(0, 2)


def jittering(draw: random.Random) -> tuple[float, float]:
    """Now one way takes up to 4 ms longer, now the other."""
    return 2 + draw.uniform(0, 4), 2 + draw.uniform(0, 4)


def with_outliers(draw: random.Random) -> tuple[float, float]:
    """As `jittering`, and every tenth answer waits up to 300 ms in a queue."""
    out_ms, back_ms = jittering(draw)
    return out_ms, back_ms + (draw.uniform(20, 300) if draw.random() < 0.1 else 0)


DELAYS: dict[str, Delays] = {"always": always_asymmetric, "jittering": jittering, "outliers": with_outliers}


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """How it went."""

    locked_s: float
    """From the start until locked."""
    errors_ms: list[float]
    """Four times a second since then, in order of size."""
    asked: int

    @property
    def p95_ms(self) -> float:
        return self.errors_ms[int(0.95 * len(self.errors_ms))]


def sync(delays: Delays, *, seed: int = 1, seconds: int = 1200, drift: float = 50e-6, loss: float = 0.2) -> Outcome:
    """Let an autopilot answer for a while."""
    draw, now_ns, clock = random.Random(seed), START_NS, TimeSync(START_NS)
    answers: list[tuple[int, int, int]] = []
    errors_ms: list[float] = []
    asked, locked_ns = 0, None

    def autopilot_ns(at_ns: int) -> int:
        return AUTOPILOT_START_NS + round((at_ns - START_NS) * (1 + drift))

    for step in range(seconds * NS_PER_S // STEP_NS):
        now_ns = START_NS + step * STEP_NS
        for arrival_ns, tc1, ts1 in [answer for answer in answers if answer[0] <= now_ns]:
            clock.on_answer(tc1, ts1, arrival_ns)
        answers = [answer for answer in answers if answer[0] > now_ns]
        if (ts1 := clock.question(now_ns)) is not None:
            asked += 1
            if draw.random() >= loss:
                out_ms, back_ms = delays(draw)
                there_ns = now_ns + round(out_ms * NS_PER_MS)
                answers.append((there_ns + round(back_ms * NS_PER_MS), autopilot_ns(there_ns), ts1))
        offset_ns = clock.offset_at(now_ns)
        locked_ns = now_ns if locked_ns is None and offset_ns is not None else locked_ns
        if locked_ns is not None and step % 25 == 0:
            assert offset_ns is not None, f"lost the lock after {step * STEP_NS / NS_PER_S} s"
            errors_ms.append(abs(offset_ns - (autopilot_ns(now_ns) - now_ns)) / NS_PER_MS)
    assert locked_ns is not None, "never locked"
    return Outcome(locked_s=(locked_ns - START_NS) / NS_PER_S, errors_ms=sorted(errors_ms), asked=asked)


def main() -> None:
    """Print the errors of each kind of link."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=1200)
    chosen = parser.parse_args()
    for name, delays in DELAYS.items():
        for seed in range(chosen.seeds):
            outcome = sync(delays, seed=seed, seconds=chosen.seconds)
            figures = {"p50_ms": outcome.errors_ms[len(outcome.errors_ms) // 2], "p95_ms": outcome.p95_ms}
            figures |= {"max_ms": outcome.errors_ms[-1], "locked_s": outcome.locked_s, "asked": outcome.asked}
            print(json.dumps({"link": name, "seed": seed} | {key: round(value, 3) for key, value in figures.items()}))


if __name__ == "__main__":
    main()
