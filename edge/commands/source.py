"""`uav-edge source`: one sensor, in a process of its own; `uav-edge run` starts those of the deployment."""

import argparse
import logging
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from models.errors import ConfigError

if TYPE_CHECKING:
    from edge.config import FlightConfig, SourceConfig
    from edge.sources.stream import Pacer, StreamSender
    from edge.transport.sockets import Publisher

log = logging.getLogger(__name__)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("--config", type=Path, required=True, metavar="FLIGHT.yaml", help="the deployment")
    parser.add_argument("--stream", required=True, metavar="NAME", help="feed this stream of the deployment")
    parser.add_argument("--seconds", type=float, metavar="N", help="end after so long, to try a sensor out")
    parser.add_argument("--faults", type=Path, metavar="FILE", help="how `run --fault` tells of its faults")


def run(args: argparse.Namespace) -> int:
    """Publish until SIGTERM or SIGINT, the end of a file, or `--seconds`."""
    from edge.config import load_flight
    from edge.operations.signals import stop_on_signals
    from edge.sources.stream import Pacer, StreamSender
    from edge.transport.sockets import queue_length

    stop = stop_on_signals()
    config = load_flight(args.config)
    source = _choose(config, args.stream, args.config)
    stream = config.streams[args.stream]
    stream_id = 1 + list(config.streams).index(args.stream)
    pacer = Pacer(stop, limit_s=args.seconds)
    sender = StreamSender(
        stream.endpoint,
        stream_id,
        publisher=partial(publisher_of(args), high_water_mark=queue_length(stream.rate_hz)),
        max_message_bytes=stream.max_message_bytes,
        ring_slots=stream.ring_slots,
    )
    try:
        if sys.stderr.isatty():
            threading.Thread(target=_show_rate, args=(sender, args.stream), daemon=True).start()
        _play(source, stream.rate_hz, sender, pacer, args.config.parent)
    finally:
        sender.close()
    log.info("%s: %d messages sent, %d of them late", args.stream, sender.sent, pacer.late)
    return 0


def publisher_of(args: argparse.Namespace) -> "Callable[..., Publisher]":
    """Return what makes the socket of a source: one of its own only where a fault is to befall its stream."""
    from edge.transport.sockets import Publisher

    if args.faults is None:
        return Publisher
    from edge.faults.orders import Orders
    from edge.faults.sending import FaultyPublisher

    orders = Orders(args.faults)
    if not any(fault.befalls(args.stream) for fault in orders.faults):
        return Publisher
    return partial(FaultyPublisher, stream=args.stream, orders=orders)


def _choose(config: "FlightConfig", stream: str, path: Path) -> "SourceConfig":
    if stream not in config.streams:
        raise ConfigError(f"{path}: has no stream {stream!r}: known are {', '.join(config.streams)}")
    found = [source for source in config.sources if source.stream == stream]
    if len(found) != 1:
        raise ConfigError(f"{path}: {len(found)} sources feed stream {stream!r}: expected one under sources")
    return found[0]


def _play(source: "SourceConfig", rate_hz: float, sender: "StreamSender", pacer: "Pacer", folder: Path) -> None:
    """Run a source of any kind; files that it names are relative to `folder`."""
    from edge.config import CameraSource, GnuRadioSource, SdrFileSource, SyntheticSource

    if isinstance(source, SyntheticSource):
        from edge.sources.simulation import play_synthetic

        play_synthetic(source, rate_hz, sender, pacer)
    elif isinstance(source, SdrFileSource):
        from edge.sources.sdr_file import play_recording
        from edge.sources.sigmf import read_sigmf

        play_recording(read_sigmf(folder / source.path), rate_hz, sender, pacer, loop=source.loop)
    elif isinstance(source, CameraSource):
        from edge.sources.camera import play_camera

        play_camera(source, folder, sender, pacer)
    elif isinstance(source, GnuRadioSource):
        from edge.sources.gnuradio import play_gnuradio

        play_gnuradio(source, rate_hz, sender, pacer)
    else:
        from edge.sources.soapy import play_soapy, soapy_module

        play_soapy(source, rate_hz, sender, pacer, soapy=soapy_module())


def _show_rate(sender: "StreamSender", stream: str) -> None:
    """Tell whoever watches the terminal, once a second, how many messages leave."""
    before = sender.sent
    while True:
        time.sleep(1.0)
        now = sender.sent
        sys.stderr.write(f"\r{stream}: {now - before} messages/s, {now} in all ")
        sys.stderr.flush()
        before = now
