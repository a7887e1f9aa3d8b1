"""How the flights of a selfcheck are flown and judged; nobody flies them here."""

import dataclasses
from pathlib import Path

import pytest
from mavlink_samples import answer
from selfchecking import flown_as_asked

from edge.backends.planned import PlanChoice
from edge.operations.live_replay import LiveOptions
from edge.selfcheck.flying import fly_on
from edge.transport.messages import StreamAccounting
from models.bundle import Bundle, open_bundle, shipped_bundle

SECONDS = 0.2


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return open_bundle(shipped_bundle())


@pytest.fixture
def choice(bundle: Bundle, tmp_path: Path) -> PlanChoice:
    return PlanChoice(bundle=bundle, precision="auto", folder=tmp_path / "plans", options=tmp_path / "plan.yaml")


def accounting(processed: int) -> dict[str, StreamAccounting]:
    """Return a ledger of one stream that received one message."""
    rest = {"superseded": 0, "dropped_late": 0, "rejected": {}, "in_flight": 0, "lost_transport": 0, "state": "live"}
    return {"radio": StreamAccounting(received=1, processed=processed, **rest)}


def flight(**changes):
    """Return what flies well on whichever engine is asked for, but for the changes."""

    def fly(recording, bundle, options, beside):
        flown = flown_as_asked(recording, bundle, options, beside)
        return dataclasses.replace(flown, **{"answers": [answer()], "streams": accounting(1), **changes})

    return fly


def test_a_flight_with_answers_and_a_whole_accounting_is_sound(choice):
    ((one,), (line,)) = fly_on(choice, ["tensorrt"], SECONDS, flight())(lambda: None)
    assert (line.name, line.status) == ("flight on tensorrt", "ok")
    assert (one.asked, one.flown, one.results) == ("tensorrt", "tensorrt", 1)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"backend": "onnxruntime", "backend_reason": "no GPU"}, "onnxruntime at the end (no GPU)"),
        ({"streams": accounting(0)}, "messages that nobody accounts for"),
        ({"restarts": 2}, "2 restarts"),
        ({"answers": []}, "no answer"),
    ],
)
def test_a_flight_that_did_not_go_as_it_was_asked_for_fails(choice, changes, told):
    ((_,), (line,)) = fly_on(choice, ["tensorrt"], SECONDS, flight(**changes))(lambda: None)
    assert (line.status, line.found) == ("failed", told)


def test_plans_and_their_options_are_for_the_flight_on_tensorrt_alone(choice):
    asked: list[LiveOptions] = []

    def fly(recording, bundle, options, beside):
        asked.append(options)
        return flown_as_asked(recording, bundle, options, beside)

    fly_on(choice, ["onnxruntime", "tensorrt"], SECONDS, fly)(lambda: None)
    assert [(one.backend, one.plans, one.plan_options) for one in asked] == [
        ("onnxruntime", None, None),
        ("tensorrt", choice.folder, choice.options),
    ]


class Meter:
    """Counts how often power is looked at."""

    def __init__(self):
        self.samples = 0

    def sample(self):
        self.samples += 1

    def energy(self):
        return None


def test_power_is_looked_at_some_times_a_second_during_a_flight(choice):
    meter = Meter()

    def fly(recording, bundle, options, beside):
        for _ in range(20):  # as often as a second of flight is looked at
            beside()
        return flown_as_asked(recording, bundle, options, lambda: None)

    fly_on(choice, ["onnxruntime"], SECONDS, fly, lambda: meter)(lambda: None)
    assert meter.samples == 5
