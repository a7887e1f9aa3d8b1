import logging
import re
import socket
import time
from pathlib import Path
from typing import Any

import mavlink_samples as samples
import pytest
import signatures
from signatures import GROUND, KEY, NOW, OTHER_KEY, SECOND, by, command, heartbeat, parameter, plain, signed, signing

from edge.clock import VirtualClock
from edge.config import load_flight
from edge.mavlink.deployment import LinkConfig, MavlinkConfig
from edge.mavlink.network.link import Link
from edge.mavlink.network.links import open_links
from edge.mavlink.outgoing.publisher import Publisher
from edge.mavlink.station.ground import GroundStation
from edge.mavlink.trust.security import REMEDIES, Security
from edge.mavlink.trust.signing import Refusal, Signing
from models.errors import ConfigError

SETUP = signatures.common.MAVLink_setup_signing_message(1, 191, list(KEY), NOW)
DEPLOYMENT = """
bundle: none.uavb
results: ipc:///tmp/unused-results
streams:
  radio: {{modality: iq, endpoint: "ipc:///tmp/unused-radio", rate_hz: 100}}
mavlink:
  links: {links}
"""


def hear(security: Security, *frames: bytes) -> tuple[list[str], dict[str, int]]:
    """Return the names of what counts on a link, and what does not by reason."""
    link, transport = linked(security)
    transport.incoming = [("peer", frame) for frame in frames]
    return [item.name for item in link.receive()], dict(link.refused)


def linked(security: Security) -> tuple[Link, samples.FakeTransport]:
    transport = samples.FakeTransport()
    return Link(transport, 1, 191, VirtualClock(1), security), transport


@pytest.mark.parametrize("message", [command(), parameter()])
def test_an_unsigned_command_is_refused_and_telemetry_read_where_commands_must_be_signed(message: Any) -> None:
    security = Security(require_signed="commands", signing=signing())

    heard = hear(security, plain(message), plain(heartbeat()), signed(message, NOW))

    assert heard == (["HEARTBEAT", message.get_type()], {"unsigned": 1})


def test_without_a_key_nobody_commands_and_telemetry_is_read() -> None:
    heard = hear(
        Security(require_signed="commands"), plain(command()), signed(command(), NOW), signed(heartbeat(), NOW)
    )

    assert heard == (["HEARTBEAT"], {"no_key": 2})


def test_unsigned_telemetry_is_refused_where_all_must_be_signed() -> None:
    security = Security(require_signed="all", signing=signing())

    assert hear(security, plain(heartbeat()), signed(heartbeat(), NOW)) == (["HEARTBEAT"], {"unsigned": 1})


def test_version_1_frames_count_as_unsigned() -> None:
    encoder = signatures.common.MAVLink(None, *GROUND)
    frame = bytes(command().pack(encoder, force_mavlink1=True))

    assert hear(Security(require_signed="commands", signing=signing()), frame) == ([], {"unsigned": 1})


def test_everything_counts_where_nothing_is_demanded() -> None:
    frames = [plain(command()), signed(command(), NOW, secret=OTHER_KEY), plain(heartbeat())]

    assert hear(Security(signing=signing()), *frames) == (["COMMAND_LONG", "COMMAND_LONG", "HEARTBEAT"], {})


def test_our_time_follows_that_of_others_even_where_nothing_is_demanded() -> None:
    ours = signing(now_ns=0)

    hear(Security(signing=ours), signed(heartbeat(), NOW))
    hear(Security(signing=ours), signed(heartbeat(), NOW + 1, secret=OTHER_KEY))

    assert ours.newest == NOW


def test_telemetry_signed_with_another_key_is_refused() -> None:
    security = Security(require_signed="commands", signing=signing())

    assert hear(security, signed(heartbeat(), NOW, secret=OTHER_KEY)) == ([], {"wrong_signature": 1})


def test_commands_count_only_from_those_on_the_list_and_telemetry_from_all() -> None:
    security = Security(require_signed="commands", signing=signing(), allow=frozenset({(255, 190)}))
    stranger = (254, 190)

    heard = hear(
        security,
        signed(command(), NOW), signed(command(), NOW, sender=stranger), signed(heartbeat(), NOW + 1, sender=stranger),
    )  # fmt: skip

    assert heard == (["COMMAND_LONG", "HEARTBEAT"], {"not_allowed": 1})


@pytest.mark.parametrize("required", ["commands", "all", "none"])
def test_a_key_over_the_air_is_refused_whoever_signed_it(required: Any) -> None:
    security = Security(require_signed=required, signing=signing())

    assert hear(security, signed(SETUP, NOW), plain(SETUP)) == ([], {"setup_signing": 2})


def test_our_own_frames_sent_back_to_us_do_not_count() -> None:
    security = Security(require_signed="all", signing=signing())
    link, transport = linked(security)
    link.send(heartbeat())
    link.send(command())
    transport.incoming = [("attacker", frame) for frame in transport.sent]

    assert link.receive() == []
    assert dict(link.refused) == {"ours": 2}


def test_what_is_received_on_a_link_is_sent_on_to_nobody() -> None:
    link, transport = linked(Security(require_signed="commands", signing=signing()))
    transport.incoming = [("peer", signed(SETUP, NOW)), ("peer", signed(command(), NOW + 1))]
    link.receive()

    assert transport.sent == []


@pytest.mark.parametrize(
    ("frames", "welcome"),
    [
        ([signed(heartbeat(), NOW)], {"peer": True}),
        ([signed(heartbeat(), NOW)] * 2, {"peer": True}),
        ([signed(heartbeat(), NOW - 61 * SECOND)], {"peer": False}),
        ([signed(heartbeat(), NOW + 61 * SECOND)], {"peer": False}),
        ([signed(heartbeat(), NOW, secret=OTHER_KEY)], {}),
        ([plain(heartbeat())], {}),
        ([signed(heartbeat(), NOW, sender=(1, 191))], {}),
    ],
    ids=["counts", "counts once", "slow clock", "fast clock", "other key", "unsigned", "ours"],
)
def test_who_has_the_key_hears_us_and_who_counts_first(frames: list[bytes], welcome: dict[str, bool]) -> None:
    link, transport = linked(Security(require_signed="all", signing=signing()))
    transport.incoming = [("peer", frame) for frame in frames]
    link.receive()

    assert transport.welcomed == welcome


def test_a_ground_station_that_starts_again_with_a_slow_clock_hears_us() -> None:
    link, transport = linked(Security(require_signed="all", signing=signing()))
    for time_ in (NOW + 5 * SECOND, NOW):
        transport.welcomed.clear()
        transport.incoming = [("peer", signed(heartbeat(), time_))]
        link.receive()

    assert transport.welcomed == {"peer": False}


def test_the_same_frame_does_not_count_on_two_links_with_one_key() -> None:
    shared = signing()

    first = hear(Security(require_signed="all", signing=shared, link_id=0), signed(command(), NOW))
    second = hear(Security(require_signed="all", signing=shared, link_id=1), signed(command(), NOW))

    assert (first, second) == ((["COMMAND_LONG"], {}), ([], {"replayed": 1}))


def test_forged_frames_neither_keep_a_link_up_nor_shut_anybody_out() -> None:
    link, transport = linked(Security(require_signed="all", signing=signing()))
    forged = [signed(heartbeat(), 2**48 - 1 - n, secret=OTHER_KEY) for n in range(50)]
    genuine = [signed(heartbeat(), NOW + n) for n in range(50)]

    transport.incoming = [("attacker", frame) for frame in forged]
    assert link.receive() == []
    assert link.state.value == "open"
    transport.incoming = [("ground", frame) for pair in zip(forged, genuine, strict=True) for frame in pair]

    assert len(link.receive()) == 50
    assert link.state.value == "up"
    assert dict(link.refused) == {"wrong_signature": 100}


def test_a_refusal_is_told_once_to_the_log_with_its_remedy_and_once_to_the_ground(
    caplog: pytest.LogCaptureFixture,
) -> None:
    link, transport = linked(Security(require_signed="commands", signing=signing()))
    publisher = Publisher(MavlinkConfig(links=("udpin:0",)), {}, 300.0, now_ns=1)
    texts = []
    for second in range(5):
        transport.incoming = [("peer", plain(command()))]
        link.receive()
        for news in link.take_news():
            publisher.on_news(news, second * 10**9)
        texts += [m.text for m in publisher.tick(second * 10**9) if m.get_type() == "STATUSTEXT"]

    assert [record.message for record in caplog.records if record.levelno == logging.WARNING] == [
        "link fake: COMMAND_LONG of 255/190 refused (unsigned): let the sender sign with the link's key, or set"
        " require_signed: none; the rest is counted"
    ]
    assert texts == ["FUSION: refused 255/190: unsigned"]
    assert link.refused["unsigned"] == 5


def test_every_refusal_has_a_remedy_and_a_row_in_the_documentation(root: Path) -> None:
    rows = re.findall(r"^\| `(\w+)` \|", (root / "docs" / "mavlink.md").read_text(), re.MULTILINE)

    assert set(REMEDIES) == set(Refusal)
    assert {refusal.value for refusal in Refusal} <= set(rows)


@pytest.mark.parametrize(
    ("link", "demand"),
    [
        (LinkConfig(link="udpin:14550"), "commands"),
        (LinkConfig(link="tcpout:10.0.0.2:5760"), "commands"),
        (LinkConfig(link="serial:/dev/ttyTHS1:921600"), "none"),
        (LinkConfig(link="serial:/dev/ttyTHS1:921600", key="key"), "commands"),
        (LinkConfig(link="serial:/dev/ttyTHS1:921600", require_signed="commands"), "commands"),
        (LinkConfig(link="udpin:14550", require_signed="none"), "none"),
        (LinkConfig(link="udpin:14550", key="key", require_signed="all"), "all"),
    ],
)
def test_commands_must_be_signed_unless_a_wire_or_the_deployment_says_otherwise(link: LinkConfig, demand: str) -> None:
    assert link.demand == demand


def deployment(folder: Path, links: str) -> Path:
    path = folder / "flight.yaml"
    path.write_text(DEPLOYMENT.format(links=links))
    return path


def test_a_link_is_a_text_or_a_mapping_with_its_key_beside_the_deployment(tmp_path: Path) -> None:
    links = "['udpout:127.0.0.1:14550', {link: 'udpin:14551', key: keys/gcs, allow: ['255/190', 254/1]}]"

    mavlink = load_flight(deployment(tmp_path, links)).mavlink

    assert mavlink is not None
    first, second = mavlink.link_configs
    assert first == LinkConfig(link="udpout:127.0.0.1:14550")
    assert second.key == str(tmp_path / "keys" / "gcs")
    assert second.senders == {(255, 190), (254, 1)}


@pytest.mark.parametrize(
    ("links", "problem"),
    [
        ("[{link: 'udpin:14550', require_signed: all}]", "require_signed: all needs a key"),
        ("[{link: 'udpin:14550', require_signed: some}]", "require_signed"),
        ("[{link: 'udpin:14550', allow: ['255']}]", "expected SYSTEM/COMPONENT"),
        ("[{link: 'udpin:14550', allow: ['256/1']}]", "expected SYSTEM/COMPONENT"),
        ("[{link: 'udpin:14550', kee: gcs}]", "did you mean key"),
        ("[{key: gcs}]", "link is missing"),
        ("[{link: 'file:/tmp/a.tlog', key: gcs}]", "a file is not signed"),
        ("[{link: 'udp:14550'}]", "expected udpout:HOST:PORT"),
        ("['udpin:14550', {link: 'udpin:14550'}]", "named twice"),
        ("[14550]", "links.0"),
    ],
)
def test_a_link_that_makes_no_sense_is_refused_with_what_was_expected(tmp_path: Path, links: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        load_flight(deployment(tmp_path, links))


def test_an_absent_key_ends_the_start_and_opens_no_link(tmp_path: Path) -> None:
    config = MavlinkConfig(links=(LinkConfig(link="udpin:0", key=str(tmp_path / "absent")),))

    with pytest.raises(ConfigError, match="keygen"), open_links(config, VirtualClock(1)):
        pytest.fail("opened")


@pytest.mark.parametrize(
    ("link", "is_warned"),
    [("udpin:0.0.0.0:0", True), ("tcpin:0.0.0.0:0", True), ("udpin:0", False), ("udpin:localhost:0", False)],
)
def test_a_link_on_which_anybody_commands_is_warned_of(
    link: str, is_warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    config = MavlinkConfig(links=(LinkConfig(link=link, require_signed="none"),))

    with open_links(config, VirtualClock(1)):
        pass

    assert ("whoever reaches this address may command" in caplog.text) == is_warned


def test_what_is_sent_is_signed_with_the_key_of_each_link_and_its_number(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_bytes(KEY)
    key.chmod(0o600)
    config = MavlinkConfig(links=("udpin:127.0.0.1:0", LinkConfig(link="udpin:localhost:0", key=str(key))))

    with open_links(config, VirtualClock(1), signatures.Calendar()) as (links, _):
        sent = []
        for link in links:
            link.transport.close()
            link.transport = samples.FakeTransport()
            link.send(heartbeat())
            sent += link.transport.sent

    assert sent[0][2] == 0
    assert (sent[1][2], sent[1][-13]) == (1, 1)
    assert sent[1][-6:] == signatures.tag(KEY, sent[1][:-6])


def test_a_ground_station_with_a_key_shows_only_what_is_signed_with_it(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(KEY)
    (tmp_path / "key").chmod(0o600)
    with (
        GroundStation("udpin:0", key=tmp_path / "key") as ground,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as vehicle,
    ):
        ours = Signing(KEY, time.time_ns, is_clean=True)
        for frame in (plain(heartbeat(), (1, 191)), by(ours, heartbeat(), (1, 191))):
            vehicle.sendto(frame, ("127.0.0.1", ground.port))
            while not ground.counts.refused.total():
                assert ground.poll(timeout_ms=1000) == []
        received = ground.poll(timeout_ms=20_000)

    assert [item.name for item in received] == ["HEARTBEAT"]
    assert dict(ground.counts.refused) == {"unsigned": 1}


def test_a_ground_station_that_cannot_listen_gives_its_key_back(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(KEY)
    (tmp_path / "key").chmod(0o600)
    with pytest.raises(ConfigError, match="expected udpout"):
        GroundStation("udpin", key=tmp_path / "key")

    GroundStation("udpin:0", key=tmp_path / "key").close()
