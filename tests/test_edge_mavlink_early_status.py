"""FUSION_STATUS of statuses that come before their time, and what is marked as a test's."""

import mavlink_samples as samples
import pytest
from test_edge_mavlink_publisher import Flight

from edge.mavlink.wire.codec import Flag
from edge.transport.messages import Injected

MS = 1_000_000


def status(ms: int, radio: int, results: int):
    streams = {"radio": samples.accounting(received=radio), "camera": samples.accounting(received=0)}
    return samples.status(time_ns=ms * MS, results=results, streams=streams)


def test_rates_are_measured_over_half_a_second_at_least() -> None:
    """A message that came just before a status that is 0.1 s early would count ten times as much."""
    flight = Flight()
    flight.hear(samples.answer())
    rates = []
    for ms, radio, results in ((0, 0, 0), (1000, 100, 10), (1100, 120, 12), (1600, 160, 16), (1700, 180, 18)):
        flight.publisher.on_status(status(ms, radio, results), flight.now_ns)
        flight.wait(0.1)
        message = flight.messages("FUSION_STATUS")[-1]
        rates.append((message.input_rate[0], message.output_rate))
    assert rates == [(0, 0)] + [(10_000, 1_000)] * 4
    assert len(flight.messages("FUSION_STATUS")) == 5


@pytest.mark.parametrize("faults", [(), ("camera:stuck@10s+5s",)])
def test_an_answer_of_a_flight_with_injected_faults_is_marked(faults) -> None:
    flight = Flight()
    flight.publisher.on_status(samples.status(injected=Injected(faults=faults)), flight.now_ns)
    flight.hear(samples.answer()).wait(0.1)
    (answer,) = flight.messages("FUSION_CLASSIFICATION")
    assert (Flag.TEST in Flag(answer.flags)) == bool(faults)
