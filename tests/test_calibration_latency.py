import pytest

from calibration.judging.latency import Latency, measure, speedup


def test_turns_are_taken_one_after_the_other_and_the_first_call_is_not_timed():
    heard = []
    ticks = iter(range(0, 10**9, 1000))
    calls = {name: lambda name=name: heard.append(name) for name in "ab"}
    found = measure(calls, rounds=3, calls_a_round=2, clocks=(lambda: next(ticks), lambda: next(ticks)))
    assert "".join(heard) == "ab" + "aabb" * 3
    assert found["a"].wall_ms == (0.001, 0.001, 0.001)  # two ticks over two calls: the CPU clock is read between
    assert len(found["b"].cpu_ms) == 3


def test_the_ratio_is_taken_round_by_round_so_that_a_slow_spell_does_no_harm():
    slow = Latency(wall_ms=(9, 9, 9), cpu_ms=(4.0, 40.0, 4.4))
    fast = Latency(wall_ms=(1, 1, 1), cpu_ms=(2.0, 20.0, 2.0))
    assert speedup(slow, fast) == pytest.approx(2.0)
    assert (fast.median_cpu_ms, fast.median_wall_ms) == (2.0, 1)
