"""Who else is on a link, and what of it people must hear. Pure: messages and times in, news out."""

import logging
from dataclasses import dataclass
from typing import Any

from pymavlink.dialects.v20 import common

from edge.mavlink.security import REMEDIES
from edge.mavlink.signing import Refusal

GONE_NS = 10_000_000_000
"""Heartbeats come once a second."""
MAX_PEERS = 64
"""Beyond, the one that was silent for longest is forgotten."""


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


class Peers:
    """Remembers who was heard on one link; says each thing once."""

    def __init__(self, system_id: int, component_id: int) -> None:
        self._ours = (system_id, component_id)
        self._heartbeat_ns: dict[tuple[int, int], int] = {}
        self._autopilots: dict[int, int] = {}
        """System -> when its autopilot was last heard."""
        self._told: set[str] = set()

    def present(self, now_ns: int) -> tuple[tuple[int, int], ...]:
        """Return (system, component) of those whose heartbeat came lately."""
        return tuple(peer for peer, heard_ns in self._heartbeat_ns.items() if now_ns - heard_ns < GONE_NS)

    def on_double(self) -> list[News]:
        """Take a heartbeat of somebody else with our own system and component."""
        system, component = self._ours
        text = f"another sender calls itself system {system} component {component} too: give one of them another id"
        return self._once("double", News(
            level=logging.WARNING, text=text, subject="double",
            status_text=f"FUSION: another {system}/{component} is here",
        ))  # fmt: skip

    def on_refusal(self, refusal: Refusal, sender: tuple[int, int], name: str) -> list[News]:
        """Take a message that does not count."""
        system, component = sender
        text = f"{name} of {system}/{component} refused ({refusal.value}): {REMEDIES[refusal]}; the rest is counted"
        return self._once(f"refused {refusal.value}", News(
            level=logging.WARNING, text=text, subject=f"refused {refusal.value}",
            status_text=f"FUSION: refused {system}/{component}: {refusal.value}",
        ))  # fmt: skip

    def on_heartbeat(self, heartbeat: Any, now_ns: int) -> list[News]:
        """Take a heartbeat that counts."""
        peer = (heartbeat.get_srcSystem(), heartbeat.get_srcComponent())
        if peer not in self._heartbeat_ns and len(self._heartbeat_ns) >= MAX_PEERS:
            del self._heartbeat_ns[min(self._heartbeat_ns, key=lambda other: self._heartbeat_ns[other])]
        self._heartbeat_ns[peer] = now_ns
        if heartbeat.autopilot == common.MAV_AUTOPILOT_INVALID:
            return []
        others = {system for system, heard_ns in self._autopilots.items() if now_ns - heard_ns < GONE_NS} - {peer[0]}
        before = set(self._autopilots) - {peer[0]}
        is_new = peer[0] not in self._autopilots
        self._autopilots[peer[0]] = now_ns
        return self._on_autopilot(peer[0], before, others) if is_new else []

    def _on_autopilot(self, system: int, before: set[int], others: set[int]) -> list[News]:
        """Say that an autopilot is here, and what is strange about it."""
        news = [News(level=logging.INFO, text=f"autopilot of system {system} is here")]
        ours = self._ours[0]
        known = ", ".join(map(str, sorted(others)))
        if others:
            text = f"autopilots of systems {known} and {system} are here: ours is {ours} (mavlink.system_id)"
            news.append(News(level=logging.WARNING, text=text))
        elif before:
            text = f"the autopilot was system {max(before)}, and now is system {system}"
            news.append(News(level=logging.WARNING, text=text))
        if system != ours and ours not in others:
            text = f"the autopilot is system {system}, we are {ours}: set mavlink.system_id to {system} to belong to it"
            news.append(News(level=logging.WARNING, text=text))
        return news

    def _once(self, key: str, news: News) -> list[News]:
        if key in self._told:
            return []
        self._told.add(key)
        return [news]
