"""The most that can be answered, and what counts as kept up under more than that."""

import io
from types import SimpleNamespace

import msgspec
import pytest
from benched import STAGES, classification, ledger, overload, report
from rich.console import Console

from edge.bench.feed import Closed, Open, Sent
from edge.bench.rig import Turn
from edge.bench.text import print_bench
from edge.bench.throughput import measure_offline, measure_overload

CLOSED_PER_S = 100.0
MOST_PER_S = 250.0
AGE_MS = 6.0
"""Of each answer, of which its sender was late by all but the stages."""
NS_PER_S = 1_000_000_000


class FakeRig:
    """Answers up to MOST_PER_S, but in a closed loop it waits for its sender; it may stop answering in between."""

    rss_mib = 80.0

    def __init__(self, answering: float = 1.0) -> None:
        self.answering = answering
        self.feeds = {"image": SimpleNamespace(modality=SimpleNamespace(name="image"))}
        self.sent = {"image": 0}
        self.orders: list[Open | Closed] = []

    def turn(self, order: Open | Closed) -> Turn:
        self.orders.append(order)
        rate_per_s = (order.rate_hz or 30.0) if isinstance(order, Open) else CLOSED_PER_S
        sent = round(order.seconds * rate_per_s)
        self.sent["image"] += sent
        answered_per_s = min(rate_per_s, MOST_PER_S)
        count = round(order.seconds * answered_per_s * self.answering)
        return Turn(
            order=order,
            sent=Sent(messages={"image": sent}, seconds=order.seconds),
            answers=[classification(n, int((n + 1) * NS_PER_S / answered_per_s)) for n in range(count)],
            ended_ns=int(order.seconds * NS_PER_S),
            cpu_s=1.0,
            joules=None,
        )

    def status(self) -> SimpleNamespace:
        counts = msgspec.structs.replace(ledger(), received=self.sent["image"], processed=self.sent["image"])
        return SimpleNamespace(streams={"image": counts})

    def due_ns(self, answer, name: str) -> int:
        return answer.answer_ns - int(AGE_MS * 1e6)


def test_the_most_is_found_where_a_closed_loop_waits_for_its_sender() -> None:
    rig = FakeRig()
    assert measure_offline(rig, "image", 30.0).results_per_s == pytest.approx(MOST_PER_S, rel=0.01)
    assert [order.rate_hz for order in rig.orders[3:5]] == pytest.approx(
        [1.3 * CLOSED_PER_S, 1.69 * CLOSED_PER_S], rel=0.01
    )


def test_what_was_lost_at_the_end_of_the_search_is_not_left_to_what_is_measured_next() -> None:
    rig = FakeRig()
    measure_offline(rig, "image", 30.0)
    assert rig.orders[-1] == Open(names=("image",), seconds=0.01)


def test_a_pipeline_that_answers_nothing_has_no_most() -> None:
    assert measure_offline(FakeRig(answering=0.0), "image", 30.0).results_per_s == 0.0


@pytest.mark.parametrize(("answering", "share"), [(1.0, 1.0), (0.5, 0.5)])
def test_a_time_without_answers_is_throughput_that_is_missing(answering: float, share: float) -> None:
    found = measure_overload(FakeRig(answering), "image", 3.0, MOST_PER_S, 60.0)
    assert found.throughput_share == pytest.approx(share, rel=0.01)
    assert found.is_exact


def test_what_the_sender_was_late_and_how_busy_the_engine_was_is_told_beside_the_age() -> None:
    found = measure_overload(FakeRig(), "image", 3.0, MOST_PER_S, 60.0)
    computing_ms = STAGES["preprocess"] + STAGES["infer"] + STAGES["fuse"]
    assert found.busy_share == pytest.approx(MOST_PER_S * computing_ms / 1e3, rel=0.01)
    assert found.sender_late.p50 == pytest.approx(AGE_MS - sum(STAGES.values()))
    assert found.from_send.p50 == pytest.approx(sum(STAGES.values()))
    assert found.age.p50 == pytest.approx(AGE_MS)


def test_the_table_tells_what_share_of_the_most_was_answered() -> None:
    text = io.StringIO()
    load = overload(throughput_share=0.87)
    print_bench(report(overloads=(load,)), Console(file=text, width=200))
    row = next(line for line in text.getvalue().splitlines() if "image x3" in line)
    assert "0.87" in row
