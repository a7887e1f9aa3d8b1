"""The process that speaks MAVLink: what the pipeline publishes in, what the links carry out."""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from edge.clock import Clock, SystemClock
from edge.config import FlightConfig
from edge.mavlink.control.onboard import BoardWatch
from edge.mavlink.control.services import Services, deployed
from edge.mavlink.network.link import Link
from edge.mavlink.network.links import open_links
from edge.mavlink.outgoing.outlet import RESULT
from edge.mavlink.outgoing.outlets import Outlets
from edge.mavlink.outgoing.publisher import Publisher
from edge.mavlink.pace import NS_PER_S, Period
from edge.mavlink.place.feed import Feed
from edge.mavlink.ports.transport import Transport
from edge.transport.sockets import Subscriber
from models.errors import ConfigError

log = logging.getLogger(__name__)

NS_PER_US = 1_000
RECEIVE_TIMEOUT_MS = 20
"""Also the longest that a heartbeat is late."""
ANSWER_TIMEOUT_MS = 1
"""While an answer about the time may come: what it waits here counts as its way."""
MAX_AT_ONCE = 64
"""Messages of the pipeline that are taken before the links are served again."""
MAX_LAST_MESSAGES = 1000
"""Taken from the results socket at the end, so that what was answered before is sent."""


def run_publisher(
    config: FlightConfig,
    stop: threading.Event,
    clock: Clock | None = None,
    behind: Callable[[Transport], Transport] | None = None,
) -> None:
    """Publish what the pipeline answers on every link, until `stop` is set.

    Args:
        config: the deployment.
        stop: looked at some 50 times a second.
        clock: by default the system's.
        behind: makes what each link uses of its port; by default the port itself.
    Raises:
        ConfigError: the deployment has no links.
        LinkError: a link cannot be opened, or an endpoint is taken.
    """
    if config.mavlink is None:
        raise ConfigError("mavlink: expected in the deployment, not there: add mavlink: {links: [udpout:HOST:14550]}")
    clock = clock or SystemClock()
    modality_of = {name: stream.modality for name, stream in config.streams.items()}
    max_age_ms = config.pipeline.max_age_ms
    slowest_s = max(1 / stream.rate_hz for stream in config.streams.values())
    answer_s = config.pipeline.silent_after_periods * slowest_s
    publisher = Publisher(config.mavlink, modality_of, max_age_ms, clock.now_ns(), answer_s)
    with contextlib.ExitStack() as stack:
        links, keys = stack.enter_context(open_links(config.mavlink, clock))
        for link in links:
            link.transport = behind(link.transport) if behind is not None else link.transport
        told = config.recording.status if config.recording is not None else None
        others_pose, own_pose = (None, config.pose) if config.mavlink.poses else (config.pose, None)
        heard = [endpoint for endpoint in (config.results, told, others_pose) if endpoint is not None]
        feed = stack.enter_context(Feed(config.mavlink.received, own_pose))
        outlets = Outlets(config.mavlink, links, time.time_ns() // NS_PER_US, clock.now_ns())
        stack.callback(outlets.close)
        services = Services(config.mavlink, deployed(config.mavlink, max_age_ms), publisher, outlets, clock.now_ns())
        stack.callback(services.complaints.tell_all)
        board = stack.enter_context(contextlib.closing(BoardWatch(clock, folder=_disk_of(config))))
        subscriber = Subscriber(heard)
        stack.callback(subscriber.close)
        log.info("publishing on %s", ", ".join(link.transport.name for link in links))
        complaint, complained = Period(NS_PER_S), 0
        while not stop.is_set():
            is_waiting = publisher.whereabouts.autopilots.is_waiting_at(clock.now_ns())
            parts = subscriber.receive(ANSWER_TIMEOUT_MS if is_waiting else RECEIVE_TIMEOUT_MS)
            parts = _caught_up(publisher, subscriber, parts, clock)
            step(publisher, services, links, parts, clock.now_ns())
            feed.publish(publisher.whereabouts.hearing.take(), clock.now_ns())
            if (looked := board.take()) is not None:
                services.offer([looked], clock.now_ns())
            keys.poll(clock.now_ns())
            refused = publisher.rejected.total()
            if refused > complained and complaint.is_due(clock.now_ns()):
                complained = refused
                log.warning("%s: refused so far: %s", config.results, dict(publisher.rejected))
        for _ in range(MAX_LAST_MESSAGES):
            if (parts := subscriber.receive(0)) is None:
                break
            step(publisher, services, links, parts, clock.now_ns())


def _disk_of(config: FlightConfig) -> Path:
    """Return a folder on the disk that the flight is kept on."""
    if config.mavlink is not None and config.mavlink.spool is not None:
        return Path(config.mavlink.spool.folder)
    return Path(config.recording.directory) if config.recording is not None else Path("/")


def _caught_up(
    publisher: Publisher, subscriber: Subscriber, parts: list[memoryview] | None, clock: Clock
) -> list[memoryview] | None:
    """Take what waits behind a message, so that who was held up is not late for ever; return the last one."""
    for _ in range(MAX_AT_ONCE):
        following = subscriber.receive(0) if parts is not None else None
        if parts is None or following is None:
            break
        publisher.on_message(parts, clock.now_ns())
        parts = following
    return parts


def step(
    publisher: Publisher, services: Services, links: Sequence[Link], parts: Sequence[memoryview] | None, now_ns: int
) -> None:
    """Read what the others say, take one message of the pipeline, if there is one, and send what is due."""
    outlets = services.outlets
    for number, link in enumerate(links):
        items = link.receive()
        publisher.whereabouts.on_received(number, items, max(link.received_ns, now_ns))
        outlets.on_received(number, items, now_ns)
        services.on_received(number, items, now_ns)
        for news in link.take_news():
            publisher.on_news(news, now_ns)
    for news in outlets.take_news():
        publisher.on_news(news, now_ns)
    for number, message in [*publisher.whereabouts.autopilots.take(now_ns), *services.take(now_ns)]:
        outlets.offer(number, [message], now_ns)
    if parts is not None:
        publisher.on_message(parts, now_ns)
    messages = publisher.tick(now_ns)
    services.offer(messages, now_ns)
    others = [message for message in messages if message.get_type() != RESULT]
    outlets.keep([*publisher.take_records(), *others], now_ns)
