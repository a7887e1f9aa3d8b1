"""The terminal's view of a MAVLink link: who is there, how much each sends, what was seen last."""

import time
from collections.abc import Mapping, Sequence

from rich.cells import cell_len
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from edge.mavlink.pace import NS_PER_S
from edge.mavlink.station.monitor import Monitor, Peer, names_of

REFRESH_S = 0.5
HEADINGS = ("peer", "is", "state", "link", "frames/s", "B/s", "lost", "last answer", "age s", "wait/dropped")
LEFT_OUT_FIRST = ("B/s", "wait/dropped", "is", "state", "lost", "frames/s", "age s")
"""Where the terminal is narrow."""
LAST_ANSWER = "last answer"
LEAST_ANSWER = 12
"""Characters of an answer, of which the end may be cut."""
GAP = 2
"""Characters between two columns."""


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
            title, width = f"{self._link}: {state}", self._live.console.width
            self._live.update(drawn(monitor, title, now_ns, width), refresh=True)


def drawn(monitor: Monitor, title: str, now_ns: int, width: int) -> Group:
    """Return the table with its title, and the last texts below; one line for each peer.

    Args:
        monitor: what came.
        title: names the link.
        now_ns: the time.
        width: characters of a line; what has no room is left out, see LEFT_OUT_FIRST.
    """
    rows = [_row(key, peer, monitor, now_ns) for key, peer in sorted(monitor.peers.items())]
    table = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False)
    shown = _shown(rows, width)
    for heading, letters in shown.items():
        table.add_column(heading, no_wrap=True, width=letters)
    for row in rows:
        table.add_row(*(Text(row[heading]) for heading in shown))
    texts = [
        Text(f"{(now_ns - at_ns) / NS_PER_S:6.1f} s ago  {system}/{component}  {printable(text)}", style="dim")
        for at_ns, (system, component), text in monitor.texts
    ]
    return Group(Text(title, style="bold"), table if rows else Text("nothing has come yet", style="dim"), *texts)


def _row(key: tuple[int, int], peer: Peer, monitor: Monitor, now_ns: int) -> dict[str, str]:
    """Return what is shown of a peer, by heading."""
    frames_s, bytes_s = monitor.rates(peer, now_ns)
    cells = (
        "{}/{}".format(*key), peer.kind, peer.status, peer.link.at(now_ns).value, f"{frames_s:.1f}", f"{bytes_s:.0f}",
        str(peer.lost), *_last(peer, now_ns), _waiting(peer),
    )  # fmt: skip
    return dict(zip(HEADINGS, cells, strict=True))


def _shown(rows: Sequence[Mapping[str, str]], width: int) -> dict[str, int]:
    """Return the headings for which there is room, and the characters for each."""
    needs = {heading: max(map(cell_len, (heading, *(row[heading] for row in rows)))) for heading in HEADINGS}
    whole_answer, needs[LAST_ANSWER] = needs[LAST_ANSWER], min(needs[LAST_ANSWER], LEAST_ANSWER)
    for heading in LEFT_OUT_FIRST:
        if _width(needs) > width:
            del needs[heading]
    needs[LAST_ANSWER] += min(max(width - _width(needs), 0), whole_answer - needs[LAST_ANSWER])
    return needs


def _width(needs: Mapping[str, int]) -> int:
    return sum(needs.values()) + GAP * (len(needs) - 1)


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
