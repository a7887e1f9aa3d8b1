"""All links of a deployment: what is sent goes out on each, what arrives on any is heard."""

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Sequence

from edge.clock import Clock
from edge.mavlink.deployment import LinkConfig, MavlinkConfig
from edge.mavlink.network.link import Link, open_link
from edge.mavlink.ports.transport import NetworkAddress, SerialAddress, parse_link
from edge.mavlink.trust.keys import KeyRing
from edge.mavlink.trust.security import Security

log = logging.getLogger(__name__)


@contextlib.contextmanager
def open_links(
    config: MavlinkConfig, clock: Clock, utc_ns: Callable[[], int] = time.time_ns
) -> Iterator[tuple[Sequence[Link], KeyRing]]:
    """Open all links with their keys, and close them at the end.

    Args:
        config: of MAVLink.
        clock: of heartbeats and pauses.
        utc_ns: Unix time, for signatures; it may be wrong.

    Raises:
        ConfigError: a key cannot be used.
        LinkError: a link cannot be opened.
    """
    with contextlib.ExitStack() as stack:
        keys = stack.enter_context(contextlib.closing(KeyRing([one.key for one in config.link_configs], utc_ns)))
        links = []
        for number, one in enumerate(config.link_configs):
            security = Security(
                require_signed=one.demand,
                allow=one.senders,
                signing=keys.signing(one.key),
                link_id=number % 256,
                is_serial=isinstance(parse_link(one.link), SerialAddress),
            )
            links.append(open_link(one.link, config.system_id, config.component_id, clock, security))
            stack.callback(links[-1].close)
            _warn_of_strangers(one)
        yield links, keys
        for link in links:
            log.info(
                "%s: %s, received %s, refused %s",
                link.transport.name, link.transport.counts, link.counts, dict(link.refused),
            )  # fmt: skip


def _warn_of_strangers(config: LinkConfig) -> None:
    address = parse_link(config.link)
    if not isinstance(address, NetworkAddress) or not address.is_listening or config.demand != "none":
        return
    if not address.is_loopback:
        log.warning("link %s: whoever reaches this address may command (require_signed: none)", config.link)
