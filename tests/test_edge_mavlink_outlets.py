import logging
from pathlib import Path
from typing import Any

import mavlink_samples as samples
import pytest
from pymavlink.dialects.v20 import common

from edge.clock import VirtualClock
from edge.config import load_flight
from edge.mavlink.deployment import LinkConfig, MavlinkConfig, SpoolConfig
from edge.mavlink.network.link import Link
from edge.mavlink.outgoing import bearers
from edge.mavlink.outgoing.outlets import Outlets
from edge.mavlink.outgoing.publisher import Publisher
from edge.mavlink.outgoing.spool import tlog_files
from edge.mavlink.wire import standard
from edge.mavlink.wire.codec import Flag
from models.errors import ConfigError

MS = 1_000_000
S = 1_000 * MS
UTC_US = 1_780_000_000_000_000
DEPLOYMENT = """
bundle: none.uavb
results: ipc:///tmp/unused-results
streams: {radio: {modality: iq, endpoint: "ipc:///tmp/unused-radio", rate_hz: 100}}
"""
SERIAL = "serial:/dev/ttyS9:57600"
UDP = "udpout:127.0.0.1:14550"


class Vehicle:
    """A publisher and its links, on a clock that moves in steps of 20 ms, over ports that keep what they are given."""

    def __init__(self, *links: str | LinkConfig, folder: Path | None = None) -> None:
        spool = SpoolConfig(folder=str(folder)) if folder is not None else None
        config = MavlinkConfig(links=links, spool=spool)
        self.clock = VirtualClock()
        self.ports = [samples.FakeTransport() for _ in links]
        self.links = [Link(port, 1, 191, self.clock) for port in self.ports]
        self.outlets = Outlets(config, self.links, UTC_US, 0)
        self.publisher = Publisher(config, {"radio": "iq"}, max_age_ms=300.0, now_ns=0)
        self.sequence = 0
        self._ground = Link(samples.FakeTransport(), 255, 190)

    def fly(self, seconds: float, **changes: Any) -> "Vehicle":
        """Answer 50 times a second."""
        for _ in range(round(seconds * 50)):
            captured_ns = self.clock.now_ns() + 15 * MS
            answer = samples.answer(sequence=self.sequence, capture_ns=captured_ns, **changes)
            self.sequence += 1
            self.publisher.on_classification(answer, self.clock.now_ns() + 20 * MS)
            self.wait(0.02)
        return self

    def wait(self, seconds: float) -> "Vehicle":
        for _ in range(round(seconds * 50)):
            now_ns = self.clock.now_ns() + 20 * MS
            self.clock.advance_to(now_ns)
            messages = self.publisher.tick(now_ns)
            for number, link in enumerate(self.links):
                self.outlets.on_received(number, link.receive(), now_ns)
                self.outlets.offer(number, messages, now_ns)
            self.outlets.keep(self.publisher.take_records(), now_ns)
        return self

    def hear(self, port: int, message: Any, sender: tuple[int, int] = (51, 68)) -> "Vehicle":
        self.ports[port].incoming.append(("radio", bytes(message.pack(common.MAVLink(None, *sender)))))
        return self

    def heard(self, port: int) -> list[Any]:
        """Return the messages that came out of a port since the last call, those in TUNNEL as they are inside."""
        self._ground.transport.incoming = [("vehicle", frame) for frame in self.ports[port].sent]
        self.ports[port].sent = []
        messages = [item.message for item in self._ground.receive()]
        return [
            inner
            for message in messages
            for inner in (bearers.opened(message) if message.get_type() == "TUNNEL" else [message])
        ]


def sequences(messages: list[Any], name: str = "FUSION_CLASSIFICATION") -> list[int]:
    return [message.sequence for message in messages if message.get_type() == name]


def of_the_past(messages: list[Any]) -> list[int]:
    """Return the sequences of what is marked as sent late."""
    name = "FUSION_CLASSIFICATION_LITE"
    return [one.sequence for one in messages if one.get_type() == name and one.flags & Flag.BACKFILL]


def kept(folder: Path) -> list[Any]:
    """Return the messages in the spool."""
    port = samples.FakeTransport()
    link = Link(port, 255, 190)
    for path in tlog_files(folder):
        data, at = path.read_bytes(), 0
        while at < len(data):
            end = at + 8 + data[at + 9] + 12
            port.incoming.append(("spool", data[at + 8 : end]))
            at = end
    return [item.message for item in link.receive()]


@pytest.mark.parametrize(
    ("config", "bearer", "bytes_s", "period_s"),
    [
        (LinkConfig(link=UDP), {"native", "summary"}, None, 0),
        (LinkConfig(link="file:flight.tlog"), {"native", "summary"}, None, 0),
        (LinkConfig(link=SERIAL), {"tunnel", "summary"}, 576, 1),
        (LinkConfig(link="serial:/dev/ttyS9:921600"), {"tunnel", "summary"}, 9216, 1),
        (LinkConfig(link="serial:/dev/ttyS9:9600"), {"tunnel", "summary"}, 200, 1),
        (LinkConfig(link=SERIAL, bearer=("native",), budget_bytes_s=0), {"native"}, None, 0),
        (LinkConfig(link=UDP, budget_bytes_s=600), {"native", "summary"}, 600, 1),
        (LinkConfig(link=UDP, budget_bytes_s=600, aggregate_s=0), {"native", "summary"}, 600, 0),
    ],
)
def test_a_serial_port_is_used_with_care_and_a_network_as_it_is(
    config: LinkConfig, bearer: set[str], bytes_s: float | None, period_s: float
) -> None:
    assert (config.bearers, config.bytes_s, config.period_s) == (bearer, bytes_s, period_s)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{links: [{link: 'udpin:1', bearer: [pigeon]}]}", "bearer"),
        ("{links: [{link: 'udpin:1', budget_bytes_s: 199}]}", "expected 0, or at least 200"),
        ("{links: [{link: 'udpin:1', budget_bytes_s: .nan}]}", "expected a finite number"),
        ("{links: [{link: 'udpin:1', aggregate_s: -1}]}", "expected 0 to 60"),
        ("{links: ['udpin:1'], spool: {folder: x, max_bytes: 10}}", "expected at least 1000000"),
        ("{links: ['udpin:1'], spool: {folder: x, min_free_bytes: -1}}", "expected at least 0"),
    ],
)
def test_nonsense_in_the_deployment_is_told_with_what_was_expected(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "flight.yaml"
    path.write_text(f"{DEPLOYMENT}mavlink: {text}\n")

    with pytest.raises(ConfigError, match=message):
        load_flight(path)


def test_the_spool_lies_beside_the_deployment(tmp_path: Path) -> None:
    path = tmp_path / "flight.yaml"
    path.write_text(DEPLOYMENT + "mavlink: {links: ['udpin:1'], spool: {folder: memory}}\n")
    config = load_flight(path).mavlink

    assert config is not None
    assert config.spool is not None
    assert config.spool.folder == str(tmp_path / "memory")


def test_a_spool_that_cannot_be_made_is_refused_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(ConfigError, match="name a folder of this user"):
        Vehicle(UDP, folder=tmp_path / "file")


def test_a_slow_link_sums_up_what_a_fast_one_carries_whole() -> None:
    vehicle = Vehicle(SERIAL, UDP).fly(5)
    slow, fast = vehicle.heard(0), vehicle.heard(1)

    assert sequences(fast) == list(range(250))
    assert sequences(slow) == [0, 50, 100, 150, 200]
    assert [Flag.AGGREGATED in Flag(m.flags) for m in slow if m.get_type() == "FUSION_CLASSIFICATION"][1:] == [True] * 4
    assert not any(Flag.AGGREGATED in Flag(m.flags) for m in fast if m.get_type() == "FUSION_CLASSIFICATION")


def test_a_change_reaches_both_in_the_same_step() -> None:
    vehicle = Vehicle(SERIAL, UDP).fly(3)
    for port in (0, 1):
        vehicle.heard(port)
    vehicle.fly(0.02, class_id=2, label="bird")

    assert sequences(vehicle.heard(0)) == sequences(vehicle.heard(1)) == [150]


def test_a_radio_that_is_choked_gets_half_and_another_link_all() -> None:
    vehicle = Vehicle(SERIAL, LinkConfig(link=UDP, budget_bytes_s=1000))
    vehicle.hear(0, common.MAVLink_radio_status_message(200, 200, 10, 50, 50, 0, 0)).wait(0.02)

    assert [outlet.budget.bytes_s for outlet in vehicle.outlets.all if outlet.budget is not None] == [288, 1000]


def test_a_link_that_is_down_for_a_minute_brings_only_what_is_new_and_then_what_is_asked_for(tmp_path: Path) -> None:
    vehicle = Vehicle(LinkConfig(link=UDP, budget_bytes_s=2000), folder=tmp_path).fly(5)
    vehicle.heard(0)
    vehicle.ports[0].is_open = False
    vehicle.fly(60)
    assert vehicle.heard(0) == []
    vehicle.ports[0].is_open = True
    vehicle.fly(5)
    back = vehicle.heard(0)
    assert vehicle.outlets.recall(0, 65, 5, vehicle.clock.now_ns())
    vehicle.fly(30)
    later = vehicle.heard(0)
    vehicle.outlets.close()

    assert min(sequences(back)) >= 65 * 50
    assert sequences(back, "FUSION_CLASSIFICATION_LITE") == []
    past = [message for message in later if message.get_type() == "FUSION_CLASSIFICATION_LITE"]
    assert all(Flag.BACKFILL in Flag(message.flags) for message in past)
    assert [message.time_boot_ms // 1000 for message in past] == list(range(4, 65))
    assert sequences(kept(tmp_path)) == list(range(100 * 50))


def test_answers_that_the_rate_kept_back_are_remembered(tmp_path: Path) -> None:
    vehicle = Vehicle(UDP, folder=tmp_path)
    vehicle.publisher = Publisher(MavlinkConfig(links=(UDP,), max_rate_hz=1), {}, max_age_ms=300.0, now_ns=0)
    vehicle.fly(3)
    vehicle.outlets.close()

    assert len(sequences(vehicle.heard(0))) <= 5
    assert sequences(kept(tmp_path)) == list(range(150))


def test_what_others_say_is_remembered_too(tmp_path: Path) -> None:
    vehicle = Vehicle(UDP, folder=tmp_path)
    vehicle.hear(0, common.MAVLink_attitude_message(1, 0.1, 0.2, 0.3, 0, 0, 0), (1, 1)).wait(0.1)
    vehicle.outlets.close()

    assert [m.get_srcComponent() for m in kept(tmp_path) if m.get_type() == "ATTITUDE"] == [1]


def test_a_flood_of_others_does_not_wash_the_flight_away(tmp_path: Path) -> None:
    vehicle = Vehicle(UDP, folder=tmp_path)
    for _ in range(50):
        for _ in range(200):
            vehicle.hear(0, standard.ground_heartbeat(), (255, 190))
        vehicle.fly(0.02)
    vehicle.outlets.close()

    names = samples.names(kept(tmp_path))
    assert names["FUSION_CLASSIFICATION"] == 50
    assert 1_000 <= names["HEARTBEAT"] <= 2_100


def test_the_past_ends_when_somebody_says_so(tmp_path: Path) -> None:
    vehicle = Vehicle(LinkConfig(link=UDP, budget_bytes_s=600, aggregate_s=0), folder=tmp_path).fly(10)
    vehicle.heard(0)
    assert vehicle.outlets.recall(0, 10, 0, vehicle.clock.now_ns())
    vehicle.wait(3)
    begun = of_the_past(vehicle.heard(0))
    assert vehicle.outlets.recall(0, 0, 0, vehicle.clock.now_ns())
    vehicle.wait(5)
    vehicle.outlets.close()

    assert len(begun) > 0
    assert of_the_past(vehicle.heard(0)) == []


def test_a_link_that_speaks_in_summaries_alone_cannot_carry_the_past(tmp_path: Path) -> None:
    vehicle = Vehicle(LinkConfig(link=UDP, bearer=("summary",)), folder=tmp_path).fly(1)

    assert not vehicle.outlets.recall(0, 1, 0, vehicle.clock.now_ns())
    vehicle.outlets.close()


def test_the_past_is_summed_up_about_the_confidence_that_the_link_has(tmp_path: Path) -> None:
    vehicle = Vehicle(LinkConfig(link=UDP, aggregate_s=60), folder=tmp_path)
    vehicle.outlets.all[0].aggregation.threshold = 0.9
    vehicle.fly(1, confidence=0.99).fly(1, confidence=0.8)
    vehicle.heard(0)
    assert vehicle.outlets.recall(0, 5, 0, vehicle.clock.now_ns())
    vehicle.wait(5)
    vehicle.outlets.close()

    past = of_the_past(vehicle.heard(0))
    assert len(past) == 3
    assert past[:2] == [0, 50]


def test_trouble_with_the_memory_is_told_and_that_it_is_over(tmp_path: Path) -> None:
    vehicle = Vehicle(UDP, folder=tmp_path)
    spool = vehicle.outlets.spool
    assert spool is not None
    told = []
    for trouble in ("", "No space left on device", "No space left on device", ""):
        spool.trouble = trouble
        told += [(news.level, news.status_text) for news in vehicle.outlets.take_news()]
    vehicle.outlets.close()

    assert told == [
        (logging.WARNING, "FUSION: memory fails: No space left on device"),
        (logging.INFO, "FUSION: memory is written again"),
    ]
    assert max(len(text) for _, text in told) <= standard.MAX_TEXT_BYTES


@pytest.mark.parametrize(
    "span", [(5, 5), (1, 2), (float("nan"), 0), (10, float("nan")), (float("inf"), 0), (86_401, 0), (5, -1)]
)
def test_a_span_that_is_none_is_refused(tmp_path: Path, span: tuple[float, float]) -> None:
    vehicle = Vehicle(UDP, folder=tmp_path)

    assert not vehicle.outlets.recall(0, *span, vehicle.clock.now_ns())
    vehicle.outlets.close()


def test_without_a_spool_nothing_can_be_recalled() -> None:
    vehicle = Vehicle(UDP)

    assert not vehicle.outlets.recall(0, 60, 0, vehicle.clock.now_ns())


def test_the_status_on_each_link_counts_what_that_link_dropped() -> None:
    vehicle = Vehicle(SERIAL, UDP).fly(1)
    vehicle.ports[0].is_open = False
    vehicle.fly(10)
    vehicle.ports[0].is_open = True
    vehicle.publisher.on_status(samples.status(), vehicle.clock.now_ns())
    vehicle.wait(0.1)
    slow, fast = (
        [message.results_dropped for message in vehicle.heard(port) if message.get_type() == "FUSION_STATUS"]
        for port in (0, 1)
    )

    assert slow[0] > 400
    assert fast == [0]
