"""The synthetic flight as live sources: radio and camera in processes of their own, agreeing by the clock alone."""

from edge.config import SyntheticSource
from edge.sources.stream import Pacer, StreamSender
from edge.sources.synthetic import SyntheticFlight

_NS_PER_S = 1_000_000_000


def play_synthetic(source: SyntheticSource, rate_hz: float, sender: StreamSender, pacer: Pacer) -> None:
    """Send the sensor's part of a flight that began when the board's clock was zero.

    What cannot be made in time is left out, not sent late. The truth at `capture_ns` is
    `SyntheticFlight(seed, dwell_s).class_at(capture_ns / 1e9)`.
    """
    flight = SyntheticFlight(source.seed, source.dwell_s, radio_rate_hz=rate_hz, camera_rate_hz=rate_hz)
    n = 0
    while True:
        n = max(n + 1, int(pacer.now_ns() * rate_hz / _NS_PER_S) + 1)
        due_ns = round(n * _NS_PER_S / rate_hz)
        if not pacer.wait_until(due_ns):
            return
        if source.sensor == "radio":
            sender.send_iq(flight.radio_chunk(n), due_ns, flight.generator.sample_rate_hz)
        else:
            sender.send_frame(flight.frame(n), due_ns)
