"""Emitters of synthetic sites: a window of I/Q as a radio on a drone would hear it.

Each emitter makes a unit-power baseband signal with random symbols, rate and timing. `receive` puts it on a carrier,
lets it begin and end within the window, sends it over two paths, and adds the receiver's noise, DC and gain.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Baseband = NDArray[np.complex64]
Emitter = Callable[[int, float, np.random.Generator], Baseband]

_BARKER = np.array([1, -1, 1, 1, -1, 1, 1, 1, -1, -1, -1], dtype=np.float32)
_FULL_SCALE = 32767.0


@dataclass(frozen=True, kw_only=True, slots=True)
class RadioConditions:
    """How hard the radio has it: ranges that each window draws from."""

    snr_db: tuple[float, float] = (-4.0, 18.0)
    """Power of the burst over noise in the whole sampled band."""
    silence: float = 0.03
    """Share of windows between bursts, with nothing but noise."""
    least_burst: float = 0.35
    """Least part of a window that a burst which begins or ends in it still fills."""
    carrier_hz: tuple[float, float] = (4_000.0, 120_000.0)
    """Distance of the carrier from the tuned frequency, to either side; receivers are tuned beside it."""
    second_path: float = 0.7
    """Largest amplitude of a reflection, relative to the direct path; it beats slowly against it (fading)."""
    noise_counts: tuple[float, float] = (60.0, 600.0)
    """RMS of the noise per component, in counts of the converter: the unknown gain."""


def receive(
    emitter: Emitter, samples: int, rate_hz: float, conditions: RadioConditions, rng: np.random.Generator
) -> NDArray[np.int16]:
    """Return a window of an emitter, (samples, 2) interleaved I and Q."""
    noise = np.exp(rng.uniform(*np.log(conditions.noise_counts)))
    received = rng.standard_normal((samples, 2), dtype=np.float32)
    received += rng.uniform(-0.3, 0.3, size=2).astype(np.float32)
    if rng.random() >= conditions.silence:
        amplitude = np.sqrt(2.0) * 10.0 ** (rng.uniform(*conditions.snr_db) / 20.0)
        burst = emitter(samples, rate_hz, rng) * _channel(samples, rate_hz, conditions, rng)
        burst *= np.float32(amplitude)
        first, last = _burst_limits(samples, conditions.least_burst, rng)
        received[first:last] += burst.view(np.float32).reshape(samples, 2)[first:last]
    received *= np.float32(noise)
    np.clip(received, -_FULL_SCALE, _FULL_SCALE, out=received)
    return received.astype(np.int16)


def _burst_limits(samples: int, least: float, rng: np.random.Generator) -> tuple[int, int]:
    """Return first and last sample: half of the windows lie wholly within a burst."""
    if rng.random() < 0.5:
        return 0, samples
    length = int(samples * rng.uniform(least, 1.0))
    first = int(rng.integers(0, samples - length + 1))
    return first, first + length


def _channel(samples: int, rate_hz: float, conditions: RadioConditions, rng: np.random.Generator) -> Baseband:
    """Return the carrier, with a weaker path of another Doppler shift beating against the direct one."""
    carrier_hz = rng.uniform(*conditions.carrier_hz) * rng.choice((-1.0, 1.0))
    carrier = _tone(carrier_hz / rate_hz, samples, rng)
    weak = rng.uniform(0.0, conditions.second_path)
    carrier *= 1.0 + np.float32(weak) * _tone(rng.uniform(-250.0, 250.0) / rate_hz, samples, rng)
    return carrier


def _tone(cycles_per_sample: float, samples: int, rng: np.random.Generator) -> Baseband:
    return _rotate(np.arange(samples) * cycles_per_sample + rng.random())


def _rotate(cycles: NDArray[np.floating[Any]]) -> Baseband:
    """Return exp(2 pi i cycles); whole turns go first, so that single precision is enough."""
    angle = ((cycles - np.floor(cycles)) * (2.0 * np.pi)).astype(np.float32)
    signal = np.empty(len(cycles), dtype=np.complex64)
    np.cos(angle, out=signal.real)
    np.sin(angle, out=signal.imag)
    return signal


def _hold(
    levels: NDArray[np.float32], samples: int, per_symbol: float, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Hold each level for `per_symbol` samples, beginning somewhere within the first; levels repeat as needed."""
    index = ((np.arange(samples) + rng.random() * per_symbol) * (1.0 / per_symbol)).astype(np.int64)
    return levels[index % len(levels)]


def _smooth(values: NDArray[np.float32], width: int) -> NDArray[np.float32]:
    """Apply two moving averages of `width` samples: nearly a Gaussian filter, at a fraction of its cost."""
    for _ in range(2):
        padded = np.concatenate((np.full(width, values[0]), values))
        total = np.cumsum(padded, dtype=np.float64)
        values = ((total[width:] - total[:-width]) / width).astype(np.float32)
    return values


def _bits(samples: int, per_symbol: float, rng: np.random.Generator) -> NDArray[np.float32]:
    return rng.integers(0, 2, size=int(samples / per_symbol) + 2).astype(np.float32)


def _shift_keyed(levels_hz: NDArray[np.float32], rate_hz: float) -> Baseband:
    return _rotate(np.cumsum(levels_hz, dtype=np.float64) / rate_hz)


def on_off(samples: int, rate_hz: float, rng: np.random.Generator) -> Baseband:
    """Return on-off keying, 8 to 30 kBd."""
    per_symbol = rate_hz / rng.uniform(8e3, 30e3)
    bits = _bits(samples, per_symbol, rng)
    bits[: len(bits) // 8 + 1] = 1.0
    envelope = _smooth(_hold(bits, samples, per_symbol, rng), 6)
    return np.asarray(envelope * np.sqrt(2.0), dtype=np.complex64)


def ask_preamble(samples: int, rate_hz: float, rng: np.random.Generator) -> Baseband:
    """Return shallow amplitude keying, 8 to 30 kBd: an alternating preamble, then Manchester-coded bits."""
    per_half = rate_hz / rng.uniform(8e3, 30e3) / 2.0
    bits = _bits(samples, 2.0 * per_half, rng)
    bits[: int(rng.integers(4, 12))] = 1.0
    halves = np.stack((bits, 1.0 - bits), axis=1).reshape(-1)
    low = np.float32(rng.uniform(0.15, 0.5))
    envelope = _smooth(_hold(low + (1.0 - low) * halves, samples, per_half, rng), 6)
    return np.asarray(envelope / np.sqrt((1.0 + low * low) / 2.0), dtype=np.complex64)


def fsk2(samples: int, rate_hz: float, rng: np.random.Generator) -> Baseband:
    """Return binary frequency shift keying, 10 to 40 kBd, modulation index 1.2 to 2.6."""
    baud = rng.uniform(10e3, 40e3)
    deviation_hz = baud * rng.uniform(1.2, 2.6) / 2.0
    bits = _bits(samples, rate_hz / baud, rng)
    return _shift_keyed(_hold((2.0 * bits - 1.0) * np.float32(deviation_hz), samples, rate_hz / baud, rng), rate_hz)


def gfsk(samples: int, rate_hz: float, rng: np.random.Generator) -> Baseband:
    """Return Gaussian-filtered frequency shift keying, 20 to 60 kBd, modulation index 0.5 to 1.1."""
    baud = rng.uniform(20e3, 60e3)
    deviation_hz = baud * rng.uniform(0.5, 1.1) / 2.0
    bits = _bits(samples, rate_hz / baud, rng)
    levels = _hold((2.0 * bits - 1.0) * np.float32(deviation_hz), samples, rate_hz / baud, rng)
    return _shift_keyed(_smooth(levels, max(2, int(0.6 * rate_hz / baud))), rate_hz)


def fsk4(samples: int, rate_hz: float, rng: np.random.Generator) -> Baseband:
    """Return four-level frequency shift keying, 1 to 4 kBd, tones 15 to 50 kHz apart: slow, like some telemetry."""
    baud = rng.uniform(1e3, 4e3)
    tones = 2.0 * rng.integers(0, 4, size=int(samples * baud / rate_hz) + 2).astype(np.float32) - 3.0
    spacing_hz = np.float32(rng.uniform(15e3, 50e3))
    return _shift_keyed(_hold(tones * spacing_hz / 2.0, samples, rate_hz / baud, rng), rate_hz)


def chirp(samples: int, rate_hz: float, rng: np.random.Generator) -> Baseband:
    """Return up-chirps as LoRa sends them: bandwidth 62.5 to 250 kHz, spreading factor 6 to 8, random symbols."""
    bandwidth_hz = float(rng.choice((62.5e3, 125e3, 250e3)))
    steps = 1 << int(rng.integers(6, 9))
    position = (np.arange(samples) + rng.random() * rate_hz) * (bandwidth_hz / rate_hz / steps)
    position -= np.floor(position[0])
    symbols = rng.integers(0, steps, size=int(position[-1]) + 1) / steps
    sweep = position + symbols[position.astype(np.int64)]
    return _shift_keyed(((sweep - np.floor(sweep) - 0.5) * bandwidth_hz).astype(np.float32), rate_hz)


def ofdm(samples: int, rate_hz: float, rng: np.random.Generator) -> Baseband:
    """Return 64-carrier OFDM with QPSK and a cyclic prefix, over 0.4 or 0.7 of the band."""
    size = int(rng.choice((64, 128)))
    used = 44 if size == 64 else 52
    blocks = samples // (size + size // 4) + 2
    carriers = np.zeros((blocks, size), dtype=np.complex64)
    turns = rng.integers(0, 4, size=(blocks, used)) * 0.25 + 0.125
    carriers[:, np.arange(used) - used // 2] = _rotate(turns.reshape(-1)).reshape(blocks, used)
    symbols = np.fft.ifft(carriers, axis=1) * (size / np.sqrt(used))
    stream = np.concatenate((symbols[:, -size // 4 :], symbols), axis=1).reshape(-1)
    first = int(rng.integers(0, size))
    return stream[first : first + samples].astype(np.complex64)


def spread_bpsk(samples: int, rate_hz: float, rng: np.random.Generator) -> Baseband:
    """Return BPSK spread by the 11-chip Barker code, 250 to 600 kchip/s."""
    chip_rate_hz = rng.uniform(0.25, 0.6) * rate_hz
    per_chip = rate_hz / chip_rate_hz
    bits = 2.0 * _bits(samples, per_chip * len(_BARKER), rng) - 1.0
    chips = np.outer(bits, _BARKER).reshape(-1).astype(np.float32)
    return _hold(chips, samples, per_chip, rng).astype(np.complex64)
