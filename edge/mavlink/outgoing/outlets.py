"""The outlets of all links, and the flight's memory behind them."""

import logging
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from edge.mavlink.deployment import LinkConfig, MavlinkConfig, SpoolConfig
from edge.mavlink.network.link import Link, Received
from edge.mavlink.network.peers import News
from edge.mavlink.outgoing.aggregation import Aggregation
from edge.mavlink.outgoing.backfill import Backfill
from edge.mavlink.outgoing.budget import Budget
from edge.mavlink.outgoing.outlet import Outlet
from edge.mavlink.outgoing.spool import Spool, TlogRing
from edge.mavlink.pace import NS_PER_S, Allowance
from edge.mavlink.wire.encoding import Encoder
from models.errors import ConfigError

HEARD_HZ = 1000.0
"""Most frames a second of others that are remembered, on each link: a flood must not wash the flight away."""
LONGEST_S = 86_400.0
"""Nobody asks for what is older."""


class Outlets:
    """What goes out on the links of a deployment, each by its number there.

    Args:
        config: of MAVLink.
        links: open ones, in its order.
        utc_us: Unix time.
        now_ns: the time of our clock at the same moment.

    Raises:
        ConfigError: the folder of the spool cannot be used.
    """

    def __init__(self, config: MavlinkConfig, links: Sequence[Link], utc_us: int, now_ns: int) -> None:
        self._links = links
        self._configs = config.link_configs
        self._sender = (config.system_id, config.component_id)
        self.all = [_outlet(one, link, now_ns) for one, link in zip(self._configs, links, strict=True)]
        """In the order of the deployment."""
        self._folder = Path(config.spool.folder) if config.spool is not None else Path()
        self._allowances = [Allowance(HEARD_HZ, 1.0) for _ in links]
        self._encoder = Encoder(*self._sender)
        self.spool = _open_spool(config.spool, utc_us, now_ns) if config.spool is not None else None
        self._told_trouble = ""

    def offer(self, number: int, messages: Iterable[Any], now_ns: int) -> None:
        """Let a link carry messages, now or as soon as it can; call for each often, with none too."""
        self.all[number].offer(messages, now_ns, is_open=self._links[number].transport.is_open)

    def keep(self, messages: Iterable[Any], now_ns: int) -> None:
        """Remember what was said, whether a link carried it or not."""
        if self.spool is None:
            return
        for message in messages:
            self.spool.keep(self._encoder.frame(message), now_ns)

    def on_received(self, number: int, items: Sequence[Received], now_ns: int) -> None:
        """Take what a link received: what its radio says of itself, and all of it for the memory."""
        budget = self.all[number].budget
        for item in items:
            if item.name == "RADIO_STATUS" and budget is not None:
                budget.on_radio(item.message.txbuf, now_ns)
            if self.spool is not None and self._allowances[number].take(now_ns):
                self.spool.keep(bytes(item.message.get_msgbuf()), now_ns)

    def take_news(self) -> list[News]:
        """Return what people must hear of the memory since the last call; the log has it already."""
        trouble = self.spool.trouble if self.spool is not None else ""
        if bool(trouble) == bool(self._told_trouble):
            return []
        self._told_trouble = trouble
        text = f"memory fails: {trouble}" if trouble else "memory is written again"
        level = logging.WARNING if trouble else logging.INFO
        return [News(level=level, text=text, subject="memory", status_text=f"FUSION: {text}")]

    def recall(self, number: int, from_s: float, to_s: float, now_ns: int) -> bool:
        """Send a link the answers of a span of the past, beside what is new; say whether that can be.

        Args:
            number: of the link.
            from_s: so long ago the span begins, at most a day; 0: what is being sent of the past ends.
            to_s: and ends.
            now_ns: the time.
        """
        outlet = self.all[number]
        if from_s == to_s == 0:
            outlet.recall(None)
            return True
        is_span = math.isfinite(from_s) and math.isfinite(to_s) and LONGEST_S >= from_s > to_s >= 0
        if self.spool is None or not is_span or not outlet.carries_past:
            return False
        begin_us, end_us = (self.spool.time_us(now_ns - round(ago_s * NS_PER_S)) for ago_s in (from_s, to_s))
        aggregation = Aggregation(outlet.aggregation.period_ns, outlet.aggregation.threshold)
        outlet.recall(Backfill(self._folder, self.spool.before, (begin_us, end_us), self._sender, aggregation))
        return True

    def close(self) -> None:
        """Write the rest of the memory."""
        if self.spool is not None:
            self.spool.close()


def _outlet(config: LinkConfig, link: Link, now_ns: int) -> Outlet:
    budget = Budget(config.bytes_s, now_ns) if config.bytes_s is not None else None
    return Outlet(link.send, config.bearers, budget, Aggregation(round(config.period_s * NS_PER_S)), now_ns)


def _open_spool(config: SpoolConfig, utc_us: int, now_ns: int) -> Spool:
    try:
        ring = TlogRing(Path(config.folder), config.max_bytes, config.min_free_bytes)
    except OSError as error:
        raise ConfigError(
            f"mavlink.spool.folder {config.folder}: cannot be used ({error.strerror}): name a folder of this user"
        ) from error
    return Spool(ring, utc_us, now_ns)
