"""`uav-edge ground`: a small ground station in the terminal."""

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edge.mavlink.network.link import Received
    from edge.mavlink.outgoing.lite import LiteReport
    from edge.mavlink.station.ground import GroundCounts, GroundStation
    from edge.mavlink.wire.codec import ClassificationReport, Flag

SHOW_S = 1.0


def configure(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument(
        "--link",
        default="udpin:127.0.0.1:14550",
        help="udpin, udpout, tcpin or tcpout:HOST:PORT, or serial:DEVICE:BAUD (default: %(default)s)",
    )
    parser.add_argument("--key", type=Path, metavar="FILE", help="sign with this key, and show only what is signed so")
    parser.add_argument("--seconds", type=float, help="stop after this long (default: at SIGTERM or Ctrl-C)")
    parser.add_argument("--json", action="store_true", help="print the counts as JSON on the last line")


def run(args: argparse.Namespace) -> int:
    """Show what arrives until told to stop; 1 when nothing came."""
    from edge.mavlink.station.ground import GroundStation
    from edge.operations.signals import stop_on_signals
    from models.command_line import print_json

    stop = stop_on_signals()
    start_s = time.monotonic()
    deadline_s = start_s + (args.seconds if args.seconds is not None else float("inf"))
    with GroundStation(args.link, key=args.key) as station:
        print(f"listening on {args.link}", file=sys.stderr)
        display = _Display(station, start_s)
        while not stop.is_set() and time.monotonic() < deadline_s:
            for item in station.poll(timeout_ms=100):
                display.show(item)
    summary = _summary(station.counts)
    _print_summary(summary)
    if args.json:
        print_json(summary)
    if not summary["messages"]:
        print("nothing came: does the vehicle send to this address, and does no firewall drop it?", file=sys.stderr)
    return 0 if summary["messages"] else 1


class _Display:
    """Prints texts and changes at once, and how it goes once a second."""

    def __init__(self, station: "GroundStation", start_s: float) -> None:
        self._station = station
        self._start_s = start_s
        self._shown_s = start_s
        self._shown_results = 0
        self._label: str | None = None

    def show(self, item: "Received") -> None:
        from edge.mavlink.station.ground import report_in, short_report_in

        sender = f"{item.system_id}/{item.component_id}"
        now_s = time.monotonic()
        if item.name == "STATUSTEXT":
            self._line(now_s, sender, f'"{item.message.text}"')
        if (short := short_report_in(item)) is not None:
            self._show_short(now_s, sender, short)
        report = report_in(item)
        if report is None or (report.label == self._label and now_s - self._shown_s < SHOW_S):
            return
        results = self._station.counts.results
        rate_hz = (results - self._shown_results) / max(now_s - self._shown_s, 1e-3)
        self._label, self._shown_s, self._shown_results = report.label, now_s, results
        confidence = report.classes[0].confidence if report.classes else None
        weights = " ".join(f"{weight:.2f}" for weight in report.weights)
        self._line(
            now_s, sender,
            f"{report.label:<16} {_certain(confidence):>7}  weights {weights}  {report.latency_us / 1000:.1f} ms"
            f"  {rate_hz:.0f}/s{_where(report)}  {_names(report.flags)}",
        )  # fmt: skip

    def _show_short(self, now_s: float, sender: str, report: "LiteReport") -> None:
        """Show what is new at once, and of the past every record."""
        from edge.mavlink.wire.codec import Flag

        number = report.class_id
        label = self._station.labels.get(number, f"class {number}") if number >= 0 else "no data"
        is_past = Flag.BACKFILL in report.flags
        if not is_past and label == self._label and now_s - self._shown_s < SHOW_S:
            return
        if not is_past:
            self._label, self._shown_s = label, now_s
        self._line(
            now_s, sender,
            f"{label:<16} {_certain(report.confidence):>7}  {report.count} answers at {report.time_ms / 1000:.1f} s"
            f"  {_names(report.flags)}",
        )  # fmt: skip

    def _line(self, now_s: float, sender: str, text: str) -> None:
        harmless = "".join(letter if letter.isprintable() else "?" for letter in text)
        print(f"{now_s - self._start_s:7.1f} s  {sender:<8} {harmless}", flush=True)


def _certain(confidence: float | None) -> str:
    return "" if confidence is None else f"{100 * confidence:5.1f} %"


def _names(flags: "Flag") -> str:
    return " ".join(str(flag.name) for flag in type(flags) if flag & flags)


def _where(report: "ClassificationReport") -> str:
    """Say where the thing is, or from where it was seen; GEO_VALID among the flags tells which."""
    if report.position is None:
        return ""
    accuracy = "" if report.h_acc_m is None else f" within {report.h_acc_m:.0f} m"
    return f"  {report.position.latitude_deg:.6f} {report.position.longitude_deg:.6f}{accuracy}"


def _summary(counts: "GroundCounts") -> dict[str, Any]:
    return {
        "messages": dict(counts.frames.messages),
        "results": counts.results,
        "results_missing": counts.results_missing,
        "short": counts.short,
        "past": counts.past,
        "frames_lost": counts.frames_lost,
        "frames_bad": counts.frames.bad,
        "tunnels_bad": counts.tunnels_bad,
        "frames_unknown": counts.frames.unknown,
        "refused": dict(counts.refused),
        "senders": {f"{system}/{component}": count for (system, component), count in counts.senders.items()},
    }


def _print_summary(summary: dict[str, Any]) -> None:
    for name, count in sorted(summary["messages"].items()):
        print(f"{count:8d}  {name}")
    print(
        f"{summary['results']} results ({summary['results_missing']} missing from the count),"
        f" {summary['frames_lost']} frames lost, {summary['frames_bad']} damaged, {summary['frames_unknown']} unknown,"
        f" {sum(summary['refused'].values())} refused"
    )
