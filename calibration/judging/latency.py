"""How much faster one thing is than another on a machine that has other work, too.

Turns are taken one after the other, A B A B ..., so that whatever slows the machine slows both; the ratio is taken
round by round, of CPU time, and its median told.
"""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

Clock = Callable[[], int]


@dataclass(frozen=True, kw_only=True, slots=True)
class Latency:
    """What one call took, a number for each round."""

    wall_ms: tuple[float, ...]
    cpu_ms: tuple[float, ...]
    """Of the whole process."""

    @property
    def median_wall_ms(self) -> float:
        """Median over the rounds."""
        return statistics.median(self.wall_ms)

    @property
    def median_cpu_ms(self) -> float:
        """Median over the rounds; other processes do not count."""
        return statistics.median(self.cpu_ms)


def measure(
    calls: Mapping[str, Callable[[], object]],
    rounds: int,
    calls_a_round: int,
    clocks: tuple[Clock, Clock] = (time.perf_counter_ns, time.process_time_ns),
) -> dict[str, Latency]:
    """Return what each call takes; every one runs once before the clocks do.

    Args:
        calls: by name.
        rounds: how often everyone gets a turn.
        calls_a_round: calls in one turn.
        clocks: wall and CPU time, ns.
    """
    wall_clock, cpu_clock = clocks
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(rounds):
        for name, call in calls.items():
            wall, cpu = wall_clock(), cpu_clock()
            for _ in range(calls_a_round):
                call()
            spent = (wall_clock() - wall, cpu_clock() - cpu)
            taken[name].append((spent[0] / calls_a_round / 1e6, spent[1] / calls_a_round / 1e6))
    return {
        name: Latency(wall_ms=tuple(wall for wall, _ in turns), cpu_ms=tuple(cpu for _, cpu in turns))
        for name, turns in taken.items()
    }


def speedup(slow: Latency, fast: Latency) -> float:
    """Return how many times faster the second is: the median over rounds of the ratio of CPU times."""
    return statistics.median(one / max(other, 1e-9) for one, other in zip(slow.cpu_ms, fast.cpu_ms, strict=True))
