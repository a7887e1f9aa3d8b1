"""A short synthetic flight in real processes over real sockets, on ONNX Runtime and on TensorRT: latency end to end."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from edge.backends.planned import PlanChoice
from edge.operations.board_power import Energy, PowerMeter
from edge.operations.flown import Flown
from edge.operations.live_replay import LiveOptions, fly_live
from edge.recording.reader import Recording, open_recording
from edge.recording.synthetic import write_synthetic_flight
from edge.selfcheck.line import Line, judged, line_of_error
from edge.sources.synthetic import SyntheticFlight
from models.bundle import Bundle
from models.errors import OnboardError

Backend = Literal["onnxruntime", "tensorrt"]
Fly = Callable[[Recording, Bundle, LiveOptions, Callable[[], object]], Flown]

_SEED, _DWELL_S = 7, 2.0
_LOOKS_PER_SAMPLE = 4
"""`fly_live` looks some 20 times a second; power is sampled 5 times."""
_EXPECTED = "answers, every message accounted for, and no restart"


@dataclass(frozen=True, kw_only=True, slots=True)
class Flight:
    """What came of a flight."""

    asked: Backend
    flown: str
    """Whose engines flew at its end."""
    results: int
    latency_ms: dict[str, Any]
    """From a sensor's sending to the answer, by the modalities that went in: p50 and p99."""
    accounting: dict[str, Any]
    restarts: int
    energy: Energy | None


def fly_on(
    choice: PlanChoice,
    backends: Sequence[Backend],
    seconds: float,
    fly: Fly = fly_live,
    meter: Callable[[], PowerMeter] = PowerMeter,
) -> Callable[[Callable[[], None]], tuple[list[Flight], list[Line]]]:
    """Return what flies a bundle once on each backend; it is given a function to call after each flight."""

    def work(step: Callable[[], None]) -> tuple[list[Flight], list[Line]]:
        flights: list[Flight] = []
        lines: list[Line] = []
        with tempfile.TemporaryDirectory(prefix="uav-edge-selfcheck-") as folder:
            try:
                recording = _recorded(Path(folder) / "flight.mcap", seconds)
            except OnboardError as error:
                return flights, [line_of_error("flight", "a synthetic one", error, "warning")]
            for backend in backends:
                flight, line = _fly_once(choice, backend, recording, (fly, meter()))
                flights += [flight] if flight is not None else []
                lines.append(line)
                step()
        return flights, lines

    return work


def _recorded(path: Path, seconds: float) -> Recording:
    write_synthetic_flight(path, SyntheticFlight(_SEED, _DWELL_S), seconds, lambda _: None)
    return open_recording(path)


def _fly_once(
    choice: PlanChoice, backend: Backend, recording: Recording, means: tuple[Fly, PowerMeter]
) -> tuple[Flight | None, Line]:
    fly, meter = means
    name, is_trt = f"flight on {backend}", backend == "tensorrt"
    options = LiveOptions(
        backend=backend,
        precision=choice.precision,
        plans=choice.folder if is_trt else None,
        plan_options=choice.options if is_trt else None,
    )
    try:
        flown = fly(recording, choice.bundle, options, _now_and_then(meter))
    except OnboardError as error:
        return None, line_of_error(name, _EXPECTED, error)
    summary = flown.summary()
    flight = Flight(
        asked=backend,
        flown=flown.backend,
        results=len(flown.answers),
        latency_ms=summary["latency_ms"],
        accounting=summary["accounting"],
        restarts=flown.restarts,
        energy=meter.energy(),
    )
    return flight, _judge(name, flight, flown)


def _judge(name: str, flight: Flight, flown: Flown) -> Line:
    latency = ", ".join(f"{names} p50 {one['p50']:.2f} ms" for names, one in flight.latency_ms.items())
    faults = [
        text
        for is_wrong, text in (
            (flight.flown != flight.asked, f"{flight.flown} at the end ({flown.backend_reason})"),
            (not flight.results, "no answer"),
            (not flown.is_balanced, "messages that nobody accounts for"),
            (flight.restarts > 0, f"{flight.restarts} restarts"),
        )
        if is_wrong
    ]
    found = "; ".join(faults) or f"{flight.results} answers, {latency}"
    return judged(
        name, not faults, f"{_EXPECTED}, on {flight.asked}", found, "fly it again with uav-edge replay --debug"
    )


def _now_and_then(meter: PowerMeter) -> Callable[[], object]:
    """Return what samples power at every few calls."""
    calls = iter(range(1 << 62))

    def look() -> None:
        if next(calls) % _LOOKS_PER_SAMPLE == 0:
            meter.sample()

    return look
