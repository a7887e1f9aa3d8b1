"""The terminal's view of a MAVLink link: who is there, how much each sends, what was seen last."""

import time

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from edge.mavlink.monitor import Monitor, Peer, names_of
from edge.mavlink.pace import NS_PER_S

REFRESH_S = 0.5
HEADINGS = ("peer", "is", "state", "link", "frames/s", "B/s", "lost", "last answer", "age s", "wait/dropped")


class MavlinkView:
    """Redraws twice a second, on standard error."""

    def __init__(self, link: str) -> None:
        self._link = link
        self._live = Live(console=Console(stderr=True), auto_refresh=False, transient=True)
        self._shown_s = 0.0

    def start(self) -> None:
        """Take over the terminal's last lines."""
        self._live.start()

    def stop(self) -> None:
        """Give them back."""
        self._live.stop()

    def show(self, monitor: Monitor, state: str, now_ns: int) -> None:
        """Redraw, if the last time was long enough ago."""
        now_s = time.monotonic()
        if now_s - self._shown_s >= REFRESH_S:
            self._shown_s = now_s
            self._live.update(drawn(monitor, f"{self._link}: {state}", now_ns), refresh=True)


def drawn(monitor: Monitor, title: str, now_ns: int) -> Group:
    """Return the table with its title, and the last texts below."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in HEADINGS:
        table.add_column(heading)
    for (system, component), peer in sorted(monitor.peers.items()):
        frames_s, bytes_s = monitor.rates(peer, now_ns)
        table.add_row(
            f"{system}/{component}", peer.kind, peer.status, peer.link.at(now_ns).value, f"{frames_s:.1f}",
            f"{bytes_s:.0f}", str(peer.lost), *map(Text, _last(peer, now_ns)), _waiting(peer),
        )  # fmt: skip
    texts = [
        Text(f"{(now_ns - at_ns) / NS_PER_S:6.1f} s ago  {system}/{component}  {printable(text)}", style="dim")
        for at_ns, (system, component), text in monitor.texts
    ]
    return Group(Text(title, style="bold"), table, *texts)


def printable(text: str) -> str:
    """Return a text of others without control codes."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _last(peer: Peer, now_ns: int) -> tuple[str, str]:
    seen = peer.seen
    if seen is None:
        return "", ""
    certain = "" if seen.confidence is None else f" {seen.confidence:.0%}"
    flags = " ".join(names_of(seen.flags))
    return printable(f"{seen.label}{certain} {flags}".strip()), f"{(now_ns - seen.at_ns) / NS_PER_S:.1f}"


def _waiting(peer: Peer) -> str:
    return "" if peer.health is None else f"{peer.health.results_queued}/{peer.health.results_dropped}"
