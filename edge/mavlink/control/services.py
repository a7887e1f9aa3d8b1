"""What we do for others on the links: commands, parameters, intervals; and what we ask of the autopilot.

Only what a link lets through comes here: who may command was decided by its `security`. No socket and no clock:
messages and times come in, messages with the number of their link go out.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from pymavlink.dialects.v20 import common

from edge.mavlink.control import intervals, wanted
from edge.mavlink.control.commands import ACCEPTED, Command, Commands, Handler, Reply, denied, not_now, whole
from edge.mavlink.control.complaints import Complaints
from edge.mavlink.control.intervals import US_PER_S, Intervals
from edge.mavlink.control.parameters import AS_DEPLOYED, Parameters, Saver
from edge.mavlink.control.requests import Requests
from edge.mavlink.control.wanted import Want, WantedRates
from edge.mavlink.deployment import MavlinkConfig
from edge.mavlink.network.link import Received
from edge.mavlink.network.link_state import LATE_NS
from edge.mavlink.network.peers import News
from edge.mavlink.outgoing.aggregation import THRESHOLD
from edge.mavlink.outgoing.outlet import BACKFILL_SHARE
from edge.mavlink.outgoing.outlets import Outlets
from edge.mavlink.outgoing.publisher import CLASS_INFOS_NS
from edge.mavlink.outgoing.publishing import Publishing, after
from edge.mavlink.outgoing.telling import CLASS
from edge.mavlink.place.autopilots import MAX_AUTOPILOTS
from edge.mavlink.place.whereabouts import Whereabouts

log = logging.getLogger(__name__)

ONBOARD_SLOW_US = 10 * US_PER_S
"""ONBOARD_COMPUTER_STATUS where bytes are counted: it has 252."""
READ, WRITE, RESET = range(3)
"""What param1 of MAV_CMD_PREFLIGHT_STORAGE asks for."""


class Served(Protocol):
    """What the services change and ask: the publisher."""

    publishing: Publishing
    whereabouts: Whereabouts

    def apply(self, parameters: Mapping[str, float]) -> None:
        """Let the values count from now on."""
        ...

    def class_info(self, class_id: int) -> Any | None:
        """Return the name of a class, None where there is no such class."""
        ...

    def on_news(self, news: News, now_ns: int) -> None:
        """Tell people."""
        ...


class Services:
    """Of all links of a deployment.

    Args:
        config: of MAVLink.
        deployed: the parameters as the deployment has them.
        served: who publishes.
        outlets: what carries it.
        now_ns: the time.
    """

    def __init__(
        self, config: MavlinkConfig, deployed: Mapping[str, float], served: Served, outlets: Outlets, now_ns: int
    ) -> None:
        self.outlets = outlets
        self._served = served
        self._configs = config.link_configs
        self.complaints = Complaints()
        """What was asked of us in vain."""
        self._saver = Saver(Path(config.parameters)) if config.parameters is not None else None
        saved = self._saver.saved if self._saver is not None else {}
        ours = (config.system_id, config.component_id)
        self.parameters = Parameters(ours, deployed, saved, self.complaints)
        self._fastest_us: dict[int, int] = {}
        self._usual_us: list[dict[int, int]] = [{} for _ in self._configs]
        self._intervals = [self._of_link(number) for number in range(len(self._configs))]
        self._requests = Requests(served, self._intervals, outlets.all)
        self._wants = _wants(config)
        self._wanted: dict[tuple[int, int, int], WantedRates] = {}
        handlers: dict[int, Handler] = {
            **self._requests.handlers,
            common.MAV_CMD_SET_MESSAGE_INTERVAL: self._set_interval,
            common.MAV_CMD_USER_1: self._order,
            common.MAV_CMD_USER_3: self._recall,
            common.MAV_CMD_PREFLIGHT_STORAGE: self._store,
        }
        self._commands = Commands(ours, handlers, self.complaints)
        self._apply(now_ns)
        self._is_damage_told = self._saver is not None and bool(self._saver.problem)
        if self._is_damage_told:
            text = "FUSION: saved parameters damaged, as deployed"
            served.on_news(News(level=logging.ERROR, text=text, subject="parameters", status_text=text), now_ns)

    def on_received(self, link: int, items: Sequence[Received], now_ns: int) -> None:
        """Take what a link received and lets count."""
        for item in items:
            self._commands.on_received(link, item, now_ns)
            if self.parameters.on_received(link, item, now_ns):
                self._apply(now_ns)
            is_believed = self._served.whereabouts.autopilots.believes(link, item)
            for key, rates in self._wanted.items():
                if key[:2] == (link, item.system_id) and is_believed:
                    _note(rates, key, item)

    def take(self, now_ns: int) -> list[tuple[int, Any]]:
        """Return the answers and requests to send now, each with its link."""
        messages = self._commands.take(now_ns) + self.parameters.take()
        self._tell_mended(now_ns)
        autopilots = self._served.whereabouts.autopilots
        key, ours = autopilots.ours_key(now_ns), autopilots.ours(now_ns)
        if key is not None and ours is not None:
            rates = self._rates_of(key, now_ns)
            if now_ns - ours.heard_ns > LATE_NS:
                rates.begin_anew(now_ns)
            messages += [(key[0], message) for message in rates.take(now_ns)]
            for news in rates.take_news():
                log.log(news.level, "%s", news.text)
                self._served.on_news(news, now_ns)
        return messages

    def offer(self, messages: Sequence[Any], now_ns: int) -> None:
        """Let each link carry what is published, as often as it is wanted there; call often, with none too."""
        self._requests.note(messages, now_ns)
        for number, wanted_here in enumerate(self._intervals):
            self.outlets.offer(number, [one for one in messages if wanted_here.lets(one, now_ns)], now_ns)

    def _tell_mended(self, now_ns: int) -> None:
        """Say that saved parameters are whole again, once they are."""
        if self._is_damage_told and self._saver is not None and not self._saver.problem:
            self._is_damage_told = False
            text = "FUSION: parameters are saved anew"
            self._served.on_news(News(level=logging.INFO, text=text, subject="parameters", status_text=text), now_ns)

    def _rates_of(self, key: tuple[int, int, int], now_ns: int) -> WantedRates:
        if key not in self._wanted:
            if len(self._wanted) >= MAX_AUTOPILOTS:
                self._wanted.clear()
            self._wanted[key] = WantedRates(key[1:], self._wants, now_ns)
        return self._wanted[key]

    def _of_link(self, number: int) -> Intervals:
        budget = self.outlets.all[number].budget
        return Intervals(
            self._fastest_us, self._usual_us[number], lambda: budget.bytes_s if budget is not None else None
        )

    def _apply(self, now_ns: int) -> None:
        """Let the parameters count."""
        self._served.apply(self.parameters)
        named_hz = self.parameters["FUS_NVAL_HZ"]
        self._fastest_us.update({
            intervals.CLASSIFICATION: round(US_PER_S / self.parameters["FUS_RATE_HZ"]),
            intervals.NAMED_VALUE: round(US_PER_S / named_hz) if named_hz else intervals.DISABLED,
            intervals.STATUS: US_PER_S,
            intervals.ONBOARD: US_PER_S,
            intervals.CLASS_INFO: CLASS_INFOS_NS // intervals.NS_PER_US,
        })  # fmt: skip
        for number, (config, outlet) in enumerate(zip(self._configs, self.outlets.all, strict=True)):
            agg_s, bytes_s = self.parameters["FUS_AGG_S"], self.parameters["FUS_LINK_BPS"]
            period_s = config.period_s if agg_s == AS_DEPLOYED else agg_s
            self._usual_us[number][intervals.CLASSIFICATION] = round(period_s * US_PER_S)
            if outlet.budget is not None and config.bytes_s is not None:
                self._usual_us[number][intervals.ONBOARD] = ONBOARD_SLOW_US
                asked = config.bytes_s if bytes_s == AS_DEPLOYED else min(bytes_s, config.line_bytes_s)
                outlet.budget.change(asked, now_ns)
            outlet.share_with_past(self.parameters["FUS_BKFL_PCT"] / 100, now_ns)
            outlet.aggregation.threshold = self.parameters["FUS_AGG_CONF"]
            self._sum_up(number)

    def _sum_up(self, number: int) -> None:
        """Let answers of a link be summed up over the interval that is wanted there."""
        period_us = self._intervals[number].of(intervals.CLASSIFICATION)
        is_each = period_us <= self._fastest_us[intervals.CLASSIFICATION]
        self.outlets.all[number].aggregation.period_ns = 0 if is_each else period_us * intervals.NS_PER_US

    def _set_interval(self, command: Command, now_ns: int) -> Reply:
        message_id, interval_us = whole(command.params[0]), intervals.interval_of(command.params[1])
        if message_id is None or interval_us is None or not self._intervals[command.link].ask(message_id, interval_us):
            return denied(
                "expected 61200, 61202, 61203, 251 or 390, and -1, 0, or no more often than it is sent at all (ask with"
                " REQUEST_MESSAGE 244), within the link's budget"
            )
        if self._intervals[command.link].of(message_id) == intervals.DISABLED:
            self._forget(command.link, message_id)
        self._sum_up(command.link)
        return ACCEPTED

    def _forget(self, link: int, message_id: int) -> None:
        """Let nothing follow of what was switched off, even what waits."""
        if message_id == intervals.CLASSIFICATION:
            self.outlets.all[link].forget_answers()
        self.outlets.all[link].forget(lambda message: message.get_msgId() == message_id)

    def _recall(self, command: Command, now_ns: int) -> Reply:
        """Send answers of the past: from so many seconds ago to so many."""
        is_begun = self.outlets.recall(command.link, command.params[0], command.params[1], now_ns)
        why = (
            "expected seconds ago, param1 above param2, 0 to 86400, or 0 and 0 to end it; a mavlink.spool, and a link"
            " with native or tunnel"
        )
        return ACCEPTED if is_begun else denied(why)

    def _order(self, command: Command, now_ns: int) -> Reply:
        """Start, stop, pause or resume the publishing of answers."""
        found = after(self._served.publishing, whole(command.params[0]))
        if not isinstance(found, Publishing):
            why = "expected 0 to 3 in param1; what is stopped can only be started"
            return Reply(result=found, why=why)
        if found != self._served.publishing:
            self._served.publishing = found
            for outlet in self.outlets.all if found != Publishing.ON else ():
                outlet.forget_answers()
                outlet.forget(_tells_answers if found == Publishing.PAUSED else _tells_of_pipeline)
            system, component = command.sender
            text, level = f"publishing is {found.value}, by {system}/{component}", logging.WARNING
            log.log(level, "%s", text)
            news = News(level=level, text=text, subject="publishing", status_text=f"FUSION: {text}")
            self._served.on_news(news, now_ns)
        return ACCEPTED

    def _store(self, command: Command, now_ns: int) -> Reply:
        """Save the parameters, take back what is saved, or what the deployment has."""
        action, saver = whole(command.params[0]), self._saver
        if action == RESET:
            self.parameters.replace({})
        elif saver is None or action not in (READ, WRITE):
            return denied("expected 0, 1 or 2 in param1; for 0 and 1 the deployment names mavlink.parameters")
        elif saver.is_busy:
            return not_now("the last saving is not over")
        elif action == WRITE:
            saver.begin(self.parameters.changed)
            return Reply(result=common.MAV_RESULT_IN_PROGRESS, later=saver.result)
        else:
            self.parameters.replace(saver.saved)
        self._apply(now_ns)
        return ACCEPTED


def deployed(config: MavlinkConfig, max_age_ms: float) -> dict[str, float]:
    """Return the parameters as a deployment has them.

    Args:
        config: of MAVLink.
        max_age_ms: of the pipeline.
    """
    return {
        "FUS_RATE_HZ": config.max_rate_hz,
        "FUS_NVAL_HZ": 2.0,
        "FUS_TEXT": 1.0,
        "FUS_MIN_CONF": 0.0,
        "FUS_STALE_MS": max_age_ms,
        "FUS_HB_TMO": 2.0,
        "FUS_LINK_BPS": AS_DEPLOYED,
        "FUS_AGG_S": AS_DEPLOYED,
        "FUS_AGG_CONF": THRESHOLD,
        "FUS_BKFL_PCT": 100 * BACKFILL_SHARE,
    }


def _tells_answers(message: Any) -> bool:
    """Say whether people read an answer in a message."""
    return message.get_msgId() == intervals.NAMED_VALUE or getattr(message, "subject", None) == CLASS


def _tells_of_pipeline(message: Any) -> bool:
    """Say whether that, or the pipeline's status, or the name of a class is in a message."""
    return message.get_msgId() in (intervals.STATUS, intervals.CLASS_INFO) or _tells_answers(message)


def _wants(config: MavlinkConfig) -> tuple[Want, ...]:
    if config.camera is None:
        return wanted.SYSTEM_TIME, wanted.POSITION
    wants = wanted.SYSTEM_TIME, wanted.OFTEN, wanted.ATTITUDE, wanted.FIX
    return (*wants, wanted.GIMBAL) if config.camera.gimbal else wants


def _note(rates: WantedRates, key: tuple[int, int, int], item: Received) -> None:
    is_own = item.component_id == key[2]
    if is_own or item.name == wanted.GIMBAL.name:
        rates.on_message(item.name)
    if is_own and item.name == "COMMAND_ACK":
        rates.on_acknowledged(item.message.command, item.message.result)
