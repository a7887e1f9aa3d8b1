import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from playing import Received, kept_sender, virtual_pacer

from edge.clock import VirtualClock
from edge.config import SoapySource
from edge.sources.device_time import SETTLING_NS
from edge.sources.soapy import SILENCE_NS, play_soapy, soapy_module
from edge.transport.wire import FLAG_HOST_TIME, as_array
from models.errors import DeviceError

RATE_HZ = 1_000_000
OVERFLOW, TIMEOUT, STREAM_ERROR = -4, -1, -2
MTU = 4096


class FakeDevice:
    """Stands in for a SoapySDR device: counts samples, loses some where its script says so."""

    def __init__(self, clock: VirtualClock, script: list[int], has_time: bool, channels: int, rate_hz: float) -> None:
        self.clock = clock
        self.script = script
        self.has_time = has_time
        self.channels = channels
        self.rate_hz = rate_hz
        self.position = 0
        self.calls: list[tuple[Any, ...]] = []

    def getNumChannels(self, direction: int) -> int:  # noqa: N802
        return self.channels

    def getSampleRate(self, direction: int, channel: int) -> float:  # noqa: N802
        return self.rate_hz

    def hasGainMode(self, direction: int, channel: int) -> bool:  # noqa: N802
        return True

    def setupStream(self, direction: int, kind: str) -> str:  # noqa: N802
        return "stream"

    def readStream(self, stream: str, buffers: list[Any], count: int, timeoutUs: int) -> Any:  # noqa: N802, N803
        code = self.script.pop(0) if self.script else 0
        if code:
            self.clock.advance_to(self.clock.now_ns() + timeoutUs * 1000)
            return SimpleNamespace(ret=code, flags=0, timeNs=0)
        count = min(count, MTU)
        numbers = np.arange(self.position, self.position + count)
        buffers[0][:count] = np.stack((numbers % 30_000, numbers // 30_000), axis=1)
        start_ns = self.position * 1000
        self.position += count
        self.clock.advance_to(self.clock.now_ns() + count * 1000)
        return SimpleNamespace(ret=count, flags=4 if self.has_time else 0, timeNs=start_ns)

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments: self.calls.append((name, *arguments))


class FakeSoapy:
    """Stands in for the SoapySDR module, which no package index has."""

    SOAPY_SDR_RX, SOAPY_SDR_CS16, SOAPY_SDR_HAS_TIME = 1, "CS16", 4
    SOAPY_SDR_OVERFLOW, SOAPY_SDR_TIMEOUT = OVERFLOW, TIMEOUT

    def __init__(
        self, clock: VirtualClock, *script: int, has_time: bool = True, channels: int = 1, rate_hz: float = RATE_HZ
    ) -> None:
        self.device = FakeDevice(clock, list(script), has_time, channels, rate_hz)

    def Device(self, arguments: str) -> FakeDevice:  # noqa: N802
        if arguments != "driver=fake":
            raise RuntimeError("no match")
        return self.device

    def errToStr(self, code: int) -> str:  # noqa: N802
        return f"STREAM_ERROR {code}"


def play(
    clock: VirtualClock, soapy: FakeSoapy, limit_s: float = 0.1005, rate_hz: float = 100.0, **options: Any
) -> Received:
    sender, messages = kept_sender(clock)
    source = SoapySource(
        **{"stream": "r", "device": "driver=fake", "sample_rate_hz": RATE_HZ, "centre_hz": 1e9} | options
    )
    play_soapy(source, rate_hz, sender, virtual_pacer(clock, limit_s=limit_s), soapy=soapy)
    return messages


def first_samples(messages: Received) -> list[int]:
    windows = [as_array(header, payload).astype(int) for header, payload in messages]
    return [int(window[0, 0] + 30_000 * window[0, 1]) for window in windows]


def test_samples_arrive_without_gap_and_with_the_times_of_the_radio() -> None:
    clock = VirtualClock(5_000_000_000)
    messages = play(clock, FakeSoapy(clock))
    assert first_samples(messages) == [n * 10_000 for n in range(10)]
    assert [header.capture_ns - 5_000_000_000 for header, _ in messages] == [n * 10_000_000 for n in range(10)]
    assert [header.sequence for header, _ in messages] == list(range(10))
    assert {(header.sample_rate_hz, header.centre_hz) for header, _ in messages} == {(1e6, 1e9)}


def test_times_are_marked_as_the_hosts_until_the_way_to_the_radios_clock_is_known() -> None:
    clock = VirtualClock(5_000_000_000)
    messages = play(clock, FakeSoapy(clock), limit_s=0.5005)
    marked = [bool(header.flags & FLAG_HOST_TIME) for header, _ in messages]
    settling = SETTLING_NS // 10_000_000
    assert marked == [True] * settling + [False] * (50 - settling)


def test_without_time_stamps_of_the_radio_the_times_are_marked_as_the_hosts() -> None:
    clock = VirtualClock(5_000_000_000)
    messages = play(clock, FakeSoapy(clock, has_time=False))
    assert all(header.flags & FLAG_HOST_TIME for header, _ in messages)
    assert [header.capture_ns - 5_000_000_000 for header, _ in messages] == [n * 10_000_000 for n in range(10)]


def test_short_periods_overlap_so_that_each_message_holds_enough() -> None:
    clock = VirtualClock()
    messages = play(clock, FakeSoapy(clock), rate_hz=500.0, limit_s=0.0201)
    assert first_samples(messages) == [1808 + 2000 * n for n in range(7)]
    assert {header.dim0 for header, _ in messages} == {8192}


def test_an_overflow_leaves_a_gap_in_the_sequence_and_no_torn_window() -> None:
    clock = VirtualClock()
    messages = play(clock, FakeSoapy(clock, 0, 0, 0, 0, OVERFLOW), limit_s=0.25)
    assert [header.sequence for header, _ in messages] == [0, *range(2, 2 + len(messages) - 1)]
    assert first_samples(messages)[:3] == [0, 14_096, 24_096]


def test_a_timeout_is_no_loss() -> None:
    clock = VirtualClock()
    messages = play(clock, FakeSoapy(clock, TIMEOUT, 0, 0, TIMEOUT), limit_s=0.5)
    assert [header.sequence for header, _ in messages] == list(range(len(messages)))
    assert first_samples(messages)[:2] == [0, 10_000]


def test_a_radio_that_falls_silent_is_given_up() -> None:
    clock = VirtualClock()
    with pytest.raises(DeviceError, match="no samples for 3 s"):
        play(clock, FakeSoapy(clock, *[TIMEOUT] * 100), limit_s=100.0)
    assert clock.now_ns() < 2 * SILENCE_NS


def test_an_error_of_the_stream_ends_the_source_and_closes_the_radio() -> None:
    clock = VirtualClock()
    soapy = FakeSoapy(clock, 0, STREAM_ERROR)
    with pytest.raises(DeviceError, match="STREAM_ERROR -2: was it unplugged"):
        play(clock, soapy)
    assert ("closeStream", "stream") in soapy.device.calls


def test_a_radio_that_is_not_there_is_named_with_the_remedy() -> None:
    clock = VirtualClock()
    with pytest.raises(DeviceError, match="'driver=rtlsdr': no match: SoapySDRUtil --find"):
        play(clock, FakeSoapy(clock), device="driver=rtlsdr")


def test_a_device_without_receiver_is_refused() -> None:
    clock = VirtualClock()
    with pytest.raises(DeviceError, match="has no receiver"):
        play(clock, FakeSoapy(clock, channels=0))


def test_a_radio_that_cannot_run_at_the_asked_rate_is_refused() -> None:
    clock = VirtualClock()
    with pytest.raises(DeviceError, match="runs at 960000 samples a second, not at 1000000"):
        play(clock, FakeSoapy(clock, rate_hz=960_000.0))


@pytest.mark.parametrize(("gain_db", "call"), [(20.0, ("setGain", 1, 0, 20.0)), (None, ("setGainMode", 1, 0, True))])
def test_gain_is_fixed_when_given_and_automatic_otherwise(gain_db: float | None, call: tuple[Any, ...]) -> None:
    clock = VirtualClock()
    soapy = FakeSoapy(clock)
    play(clock, soapy, gain_db=gain_db)
    assert call in soapy.device.calls
    assert ("setFrequency", 1, 0, 1e9) in soapy.device.calls


def test_without_soapysdr_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "SoapySDR", None)
    with pytest.raises(DeviceError, match="SoapySDR is not installed: apt install"):
        soapy_module()
