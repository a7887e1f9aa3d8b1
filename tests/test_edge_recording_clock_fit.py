"""How fast a clock goes, by readings that lie, wait, and are few."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.recording.imports.clock_fit import MIN_READINGS, fit_clock

NS = 1_000_000_000
UTC = 1_700_000_000 * NS


def _readings(ppm: float, count: int = 600, scatter_ms: float = 0.0) -> list[tuple[int, int]]:
    noise = np.random.default_rng(3).normal(0.0, 1e6, count) * scatter_ms
    return [(n * NS, UTC + round(n * NS * (1 + ppm * 1e-6)) + round(noise[n])) for n in range(count)]


@given(st.floats(-500, 500))
def test_a_clean_clock_is_measured_exactly(ppm: float) -> None:
    fit = fit_clock(_readings(ppm))
    assert fit is not None
    assert fit.ppm == pytest.approx(-ppm, abs=1e-3)
    assert (fit.readings, fit.span_s) == (600, 599.0)


def test_scatter_widens_the_error_that_is_told() -> None:
    fit = fit_clock(_readings(40.0, scatter_ms=5.0))
    assert fit is not None
    assert fit.scatter_ms == pytest.approx(5.0, rel=0.15)
    assert fit.error_ppm == pytest.approx(1.2, rel=0.2)
    assert abs(fit.ppm + 40.0) < 3 * fit.error_ppm


def test_readings_that_waited_somewhere_do_not_bend_the_line() -> None:
    readings = _readings(40.0, scatter_ms=1.0)
    late = [(own + (2 * NS if n % 10 == 0 else 0), utc) for n, (own, utc) in enumerate(readings)]
    fit = fit_clock(late)
    assert fit is not None
    assert fit.ppm == pytest.approx(-40.0, abs=2.0)
    assert fit.readings == pytest.approx(540, abs=6)


@pytest.mark.parametrize(
    "readings",
    [
        [],
        _readings(0.0, MIN_READINGS - 1),
        [(5, UTC)] * 20,
        _readings(500_000.0),
    ],
)
def test_readings_that_say_nothing_give_nothing(readings: list[tuple[int, int]]) -> None:
    assert fit_clock(readings) is None


@given(st.lists(st.tuples(st.integers(0, 2**62), st.integers(0, 2**62)), max_size=30))
def test_any_readings_give_a_finite_fit_or_none(readings: list[tuple[int, int]]) -> None:
    fit = fit_clock(readings)
    assert fit is None or np.isfinite([fit.ppm, fit.error_ppm, fit.scatter_ms]).all()


def test_a_slow_clock_is_told_as_slow() -> None:
    assert str(fit_clock(_readings(37.7))).startswith("clock -37.7 ppm against UTC")
