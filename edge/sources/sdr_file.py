"""A radio recording played at its own rate, as if the radio were there."""

import logging

from edge.sources.sigmf import SigmfRecording
from edge.sources.stream import Pacer, StreamSender, await_listener
from edge.transport.wire import FLAG_REPLAY
from models.errors import RecordingError

log = logging.getLogger(__name__)

MIN_WINDOW_SAMPLES = 8192
"""Least samples of a message: enough for any model here."""
_NS_PER_S = 1_000_000_000


def window_and_hop(sample_rate_hz: float, rate_hz: float) -> tuple[int, int]:
    """Return how many samples a message holds and how many the next one begins later.

    At high sample rates messages follow each other without gap or overlap; where the samples of one period are fewer
    than MIN_WINDOW_SAMPLES, messages overlap, so that the stream keeps its rate.
    """
    hop = max(1, round(sample_rate_hz / rate_hz))
    return max(hop, MIN_WINDOW_SAMPLES), hop


def play_recording(
    recording: SigmfRecording, rate_hz: float, sender: StreamSender, pacer: Pacer, *, loop: bool
) -> None:
    """Send a recording as it was heard, once or for ever; a message leaves when its last sample would have come in.

    Raises:
        RecordingError: shorter than one message.
    """
    window, hop = window_and_hop(recording.sample_rate_hz, rate_hz)
    starts = range(0, len(recording.samples) - window + 1, hop)
    if not starts:
        raise RecordingError(
            f"recording of {len(recording.samples)} samples is shorter than a message of {window}:"
            " take a longer one, or raise the stream's rate_hz"
        )
    if not loop:
        await_listener(sender, pacer)
    sender.flags = FLAG_REPLAY
    ns_per_sample = _NS_PER_S / recording.sample_rate_hz
    begin_ns = pacer.now_ns()
    n = 0
    while loop or n < len(starts):
        capture_ns = begin_ns + round(n * hop * ns_per_sample)
        if not pacer.wait_until(capture_ns + round(window * ns_per_sample)):
            return
        first = starts[n % len(starts)]
        samples = recording.window(first, window)
        sender.send_iq(samples, capture_ns, recording.sample_rate_hz, recording.centre_hz(first))
        n += 1
    pacer.wait_until(begin_ns + round((n * hop + window) * ns_per_sample))
    log.info("end of the recording after %d messages", n)
