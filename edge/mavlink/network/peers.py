"""Who else is on a link, and what of it people must hear. Pure: messages and times in, news out."""

import logging
from dataclasses import dataclass
from typing import Any

from pymavlink.dialects.v20 import common

from edge.mavlink.trust.security import REMEDIES
from edge.mavlink.trust.signing import Refusal

GONE_NS = 10_000_000_000
"""Heartbeats come once a second."""
MAX_AUTOPILOTS = 8
"""More than anybody flies on one link: beyond, nothing is told of newcomers."""
MAX_GROUNDS = 16
"""Of whom it is told that they are here."""
MAX_REFUSED = 8
"""Senders, of which each reason is told."""


@dataclass(frozen=True, kw_only=True, slots=True)
class News:
    """Something that people must hear."""

    level: int
    """Of the log."""
    text: str
    """For the log: what, and what to do."""
    subject: str = ""
    status_text: str = ""
    """For the ground, at most 50 characters; empty: the log alone."""
    is_arrival: bool = False
    """Whether somebody is here who has not heard what was said before."""


class Peers:
    """Remembers who was heard on one link; says each thing once, and again after it was over."""

    def __init__(self, system_id: int, component_id: int) -> None:
        self._ours = (system_id, component_id)
        self._autopilots: dict[int, int] = {}
        """System -> when its autopilot was heard; those that are gone are forgotten."""
        self._grounds: dict[tuple[int, int], int] = {}
        """The same of ground stations, by system and component."""
        self._are_several = False
        """Whether people know that there is more than one."""
        self._is_strange = False
        """Whether people were told last that the autopilot is not of our system."""
        self._double_ns: int | None = None
        self._refused: dict[Refusal, set[tuple[int, int]]] = {}
        """Of whom it was told."""

    def on_double(self, now_ns: int) -> list[News]:
        """Take a heartbeat of somebody else with our own system and component."""
        is_new, self._double_ns = self._double_ns is None, now_ns
        system, component = self._ours
        text = f"another sender calls itself system {system} component {component} too: give one of them another id"
        status = f"FUSION: another {system}/{component} is here"
        return [News(level=logging.WARNING, text=text, subject="double", status_text=status)] if is_new else []

    def on_refusal(self, refusal: Refusal, sender: tuple[int, int], name: str) -> list[News]:
        """Take a message that does not count: each sender is told of, so that forged ones do not hide a mistake."""
        told = self._refused.setdefault(refusal, set())
        if sender in told or len(told) >= MAX_REFUSED:
            return []
        told.add(sender)
        system, component = sender
        text = f"{name} of {system}/{component} refused ({refusal.value}): {REMEDIES[refusal]}; the rest is counted"
        status = f"FUSION: refused {system}/{component}: {refusal.value}"
        return [News(level=logging.WARNING, text=text, subject=f"refused {refusal.value}", status_text=status)]

    def on_heartbeat(self, heartbeat: Any, now_ns: int) -> list[News]:
        """Take a heartbeat that counts."""
        system = heartbeat.get_srcSystem()
        if heartbeat.type == common.MAV_TYPE_GCS:
            return self._on_ground((system, heartbeat.get_srcComponent()), now_ns)
        before_ns = self._autopilots.get(system)
        is_crowded = before_ns is None and len(self._autopilots) >= MAX_AUTOPILOTS
        if heartbeat.autopilot == common.MAV_AUTOPILOT_INVALID or is_crowded:
            return []
        news = self._on_new(system) if before_ns is None else self._on_known(system, before_ns)
        self._autopilots[system] = now_ns
        return news

    def on_time(self, now_ns: int) -> list[News]:
        """Take notice of who is gone; call often."""
        news = []
        if self._double_ns is not None and now_ns - self._double_ns >= GONE_NS:
            self._double_ns = None
            news.append(self._double_gone())
        for system in [system for system, heard_ns in self._autopilots.items() if now_ns - heard_ns >= GONE_NS]:
            del self._autopilots[system]
            self._are_several = self._are_several and len(self._autopilots) > 1
            news += self._on_gone(system)
        return news

    def _on_ground(self, sender: tuple[int, int], now_ns: int) -> list[News]:
        is_known = now_ns - self._grounds.get(sender, now_ns - GONE_NS) < GONE_NS
        if not is_known and len(self._grounds) >= MAX_GROUNDS:
            self._grounds = {
                other: heard_ns for other, heard_ns in self._grounds.items() if now_ns - heard_ns < GONE_NS
            }
        if not is_known and len(self._grounds) >= MAX_GROUNDS:
            return []
        self._grounds[sender] = now_ns
        text = "ground station {}/{} is here".format(*sender)
        return [] if is_known else [News(level=logging.INFO, text=text, is_arrival=True)]

    def _on_new(self, system: int) -> list[News]:
        news = [News(level=logging.INFO, text=f"autopilot of system {system} is here")]
        if system == self._ours[0] and self._is_strange:
            self._is_strange = False
            text = f"the autopilot is system {system}, as we are"
            news.append(News(level=logging.INFO, text=text, subject="system", status_text=f"FUSION: {text}"))
        return news if self._ours[0] in (system, *self._autopilots) else [*news, self._strange(system)]

    def _on_known(self, system: int, before_ns: int) -> list[News]:
        """Tell of autopilots that take turns; one that changed its system is not heard again as what it was."""
        others = [other for other, heard_ns in self._autopilots.items() if other != system and heard_ns >= before_ns]
        if self._are_several or not others:
            return []
        self._are_several = True
        known = " and ".join(map(str, sorted([system, *others])))
        text = f"autopilots of systems {known} are here: ours is {self._ours[0]} (mavlink.system_id)"
        return [News(level=logging.WARNING, text=text)]

    def _on_gone(self, system: int) -> list[News]:
        if not self._autopilots:
            return [News(level=logging.INFO, text=f"autopilot of system {system} is gone")]
        now = min(self._autopilots)
        text = f"the autopilot of system {system} is gone, that of system {now} is here"
        news = [News(level=logging.WARNING, text=text)]
        return [*news, self._strange(now)] if system == self._ours[0] else news

    def _double_gone(self) -> News:
        system, component = self._ours
        text = "the other sender with our system and component is gone"
        status = f"FUSION: the other {system}/{component} is gone"
        return News(level=logging.INFO, text=text, subject="double", status_text=status)

    def _strange(self, system: int) -> News:
        """Say that an autopilot is not that of our system."""
        self._is_strange, ours = True, self._ours[0]
        text = f"the autopilot is system {system}, we are {ours}: set mavlink.system_id to {system} to belong to it"
        status = f"FUSION: autopilot is system {system}, we are {ours}"
        return News(level=logging.WARNING, text=text, subject="system", status_text=status)
