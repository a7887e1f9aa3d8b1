"""A software-defined radio by SoapySDR, which comes from the system and not from PyPI."""

import logging
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.config import SoapySource
from edge.sources.device_time import DeviceTime
from edge.sources.sdr_file import window_and_hop
from edge.sources.stream import Pacer, StreamSender
from edge.transport.wire import FLAG_HOST_TIME
from models.errors import DeviceError

log = logging.getLogger(__name__)

READ_TIMEOUT_US = 200_000
SILENCE_NS = 3_000_000_000
"""A radio that delivers nothing for so long has failed."""
RATE_TOLERANCE = 1e-3
_NS_PER_S = 1_000_000_000
Samples = NDArray[np.int16]


def soapy_module() -> Any:
    """Return the SoapySDR module.

    Raises:
        DeviceError: it is not installed.
    """
    try:
        import SoapySDR
    except ImportError as error:
        raise DeviceError(
            "SoapySDR is not installed: apt install python3-soapysdr soapysdr-module-all,"
            " and use a venv made with --system-site-packages"
        ) from error
    return SoapySDR


def play_soapy(source: SoapySource, rate_hz: float, sender: StreamSender, pacer: Pacer, *, soapy: Any) -> None:
    """Send what a radio hears until the pacer ends it; an overflow skips a sequence number, so that it is counted.

    Args:
        source: which radio, and how it is tuned.
        rate_hz: messages a second.
        sender: the stream; told when the time stamps are the host's.
        pacer: says when to end.
        soapy: the SoapySDR module.

    Raises:
        DeviceError: the radio is not there, refuses its settings, fails, or delivers nothing for SILENCE_NS.
    """
    radio = SoapyRadio(source, soapy)
    window, hop = window_and_hop(source.sample_rate_hz, rate_hz)
    held: Samples = np.empty((0, 2), dtype=np.int16)
    try:
        while not pacer.is_over:
            block = radio.read(hop, pacer)
            if block is None:
                held = held[:0]
                sender.note_loss()
                continue
            held = np.concatenate((held, block.samples))[-window:]
            if len(held) == window and len(block.samples) == hop:
                sender.flags = 0 if block.has_device_time else FLAG_HOST_TIME
                capture_ns = block.end_ns - round(window * _NS_PER_S / source.sample_rate_hz)
                sender.send_iq(held, capture_ns, source.sample_rate_hz, source.centre_hz)
    finally:
        radio.close()
        log.info("radio %r: %d overflows", source.device, radio.overflows)


class Block:
    """Samples in a row, and when the last of them came in."""

    def __init__(self, samples: Samples, end_ns: int, has_device_time: bool) -> None:
        self.samples = samples
        self.end_ns = end_ns
        self.has_device_time = has_device_time


class SoapyRadio:
    """One receiving channel of a device, opened, tuned and running."""

    def __init__(self, source: SoapySource, soapy: Any) -> None:
        self._soapy = soapy
        self._name = source.device
        self._rate_hz = source.sample_rate_hz
        self._time = DeviceTime()
        self.overflows = 0
        try:
            self._device = soapy.Device(source.device)
            if self._device.getNumChannels(soapy.SOAPY_SDR_RX) < 1:
                raise DeviceError(f"radio {self._name!r}: has no receiver: choose another with SoapySDRUtil --find")
            self._tune(source)
            self._stream = self._device.setupStream(soapy.SOAPY_SDR_RX, soapy.SOAPY_SDR_CS16)
            self._device.activateStream(self._stream)
        except RuntimeError as error:
            raise DeviceError(
                f"radio {self._name!r}: {error}: SoapySDRUtil --find lists the radios that are there"
            ) from error

    def read(self, samples: int, pacer: Pacer) -> Block | None:
        """Return the next samples, fewer when the pacer ends it; None after an overflow, when some were lost."""
        out: Samples = np.empty((samples, 2), dtype=np.int16)
        done = 0
        end_ns = heard_ns = pacer.now_ns()
        has_time = False
        while done < samples and not pacer.is_over:
            result = self._device.readStream(self._stream, [out[done:]], samples - done, timeoutUs=READ_TIMEOUT_US)
            now_ns = pacer.now_ns()
            if result.ret > 0:
                done += result.ret
                heard_ns = end_ns = now_ns
                has_time = bool(result.flags & self._soapy.SOAPY_SDR_HAS_TIME)
                if has_time:
                    read_ns = round(result.ret * _NS_PER_S / self._rate_hz)
                    end_ns = self._time.host_ns(result.timeNs + read_ns, now_ns)
            elif result.ret == self._soapy.SOAPY_SDR_OVERFLOW:
                self.overflows += 1
                return None
            elif result.ret not in (0, self._soapy.SOAPY_SDR_TIMEOUT):
                raise DeviceError(f"radio {self._name!r}: {self._soapy.errToStr(result.ret)}: was it unplugged?")
            elif now_ns - heard_ns > SILENCE_NS:
                raise DeviceError(f"radio {self._name!r}: no samples for {SILENCE_NS / _NS_PER_S:.0f} s: replug it")
        return Block(out[:done], end_ns, has_time and self._time.is_settled)

    def close(self) -> None:
        """Stop the stream."""
        self._device.deactivateStream(self._stream)
        self._device.closeStream(self._stream)

    def _tune(self, source: SoapySource) -> None:
        receive = self._soapy.SOAPY_SDR_RX
        self._device.setSampleRate(receive, 0, float(source.sample_rate_hz))
        found_hz = self._device.getSampleRate(receive, 0)
        if abs(found_hz / source.sample_rate_hz - 1.0) > RATE_TOLERANCE:
            raise DeviceError(
                f"radio {self._name!r}: runs at {found_hz:.0f} samples a second, not at {source.sample_rate_hz}:"
                " set sample_rate_hz to one that it can do (SoapySDRUtil --probe)"
            )
        self._device.setFrequency(receive, 0, source.centre_hz)
        if source.gain_db is not None:
            self._device.setGain(receive, 0, source.gain_db)
        elif self._device.hasGainMode(receive, 0):
            self._device.setGainMode(receive, 0, True)
