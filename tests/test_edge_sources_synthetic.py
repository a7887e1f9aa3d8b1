import numpy as np
import pytest
from playing import kept_sender, virtual_pacer

from edge.clock import VirtualClock
from edge.config import SyntheticSource
from edge.pipeline.gate import Gate
from edge.sources import synthetic_radio
from edge.sources.simulation import play_synthetic
from edge.sources.synthetic import SITE_LABELS, SiteGenerator, SyntheticFlight
from edge.sources.synthetic_camera import CameraConditions
from edge.sources.synthetic_radio import RadioConditions
from edge.transport.wire import as_array

RATE_HZ = 1e6
CLASSES = range(len(SITE_LABELS))
CONSTANT_ENVELOPE = ("fsk2", "gfsk", "fsk4", "chirp", "spread_bpsk")
EMITTERS = (*CONSTANT_ENVELOPE, "on_off", "ask_preamble", "ofdm")


def test_there_are_at_least_seven_kinds_of_sites_with_different_labels() -> None:
    assert len(set(SITE_LABELS)) == len(SITE_LABELS) >= 7


@pytest.mark.parametrize("name", EMITTERS)
def test_an_emitter_sends_unit_power_on_average(name: str) -> None:
    rng = np.random.default_rng(5)
    emitter = getattr(synthetic_radio, name)
    power = np.mean([np.mean(np.abs(emitter(4096, RATE_HZ, rng)) ** 2) for _ in range(100)])
    assert power == pytest.approx(1.0, abs=0.2)


@pytest.mark.parametrize("name", CONSTANT_ENVELOPE)
def test_a_frequency_or_phase_keyed_emitter_has_a_constant_envelope(name: str) -> None:
    signal = getattr(synthetic_radio, name)(4096, RATE_HZ, np.random.default_rng(2))
    np.testing.assert_allclose(np.abs(signal), 1.0, atol=1e-4)


def test_a_chirp_sweeps_upwards_through_its_whole_bandwidth() -> None:
    signal = synthetic_radio.chirp(16_384, RATE_HZ, np.random.default_rng(3))
    steps_hz = np.angle(signal[1:] * np.conj(signal[:-1])) / (2 * np.pi) * RATE_HZ
    rising = np.mean(np.diff(steps_hz) > 0)
    assert rising > 0.95
    assert np.ptp(steps_hz) == pytest.approx(
        min((62.5e3, 125e3, 250e3), key=lambda b: abs(b - np.ptp(steps_hz))), rel=0.02
    )


@pytest.mark.parametrize("class_id", CLASSES)
def test_windows_have_the_asked_signal_to_noise_ratio(class_id: int) -> None:
    noise = (100.0, 100.0)
    loud = RadioConditions(snr_db=(20.0, 20.0), silence=0.0, least_burst=1.0, second_path=0.0, noise_counts=noise)
    generator = SiteGenerator(radio_conditions=loud)
    rng = np.random.default_rng(4)
    windows = np.stack([generator.radio(class_id, rng) for _ in range(60)]).astype(np.float64)
    power = np.mean(np.sum(windows**2, axis=2)) / (2 * 100.0**2)
    assert 10 * np.log10(power) == pytest.approx(20.0, abs=1.2)


def test_a_silent_window_holds_noise_alone() -> None:
    quiet = RadioConditions(silence=1.0, noise_counts=(200.0, 200.0))
    window = SiteGenerator(chunk_samples=65_536, radio_conditions=quiet).radio(0, np.random.default_rng(1))
    assert window.std() == pytest.approx(200.0, rel=0.02)
    spectrum = np.abs(np.fft.fft(window[:, 0] - window[:, 0].mean() + 1j * window[:, 1])).reshape(64, -1).mean(axis=1)
    assert spectrum[1:].max() < 1.2 * np.median(spectrum)


@pytest.mark.parametrize("class_id", CLASSES)
def test_the_quality_gate_accepts_every_window_and_frame(class_id: int) -> None:
    generator, rng, gate = SiteGenerator(), np.random.default_rng(class_id), Gate()
    for _ in range(40):
        assert gate.check_iq(generator.radio(class_id, rng)) is None
        assert gate.check_frame(generator.scene(class_id, rng)) is None


def test_chunk_and_frame_sizes_are_as_asked() -> None:
    generator = SiteGenerator(chunk_samples=1000, frame_px=(120, 200))
    rng = np.random.default_rng(0)
    window, frame = generator.radio(3, rng), generator.scene(3, rng)
    assert (window.shape, window.dtype) == ((1000, 2), np.int16)
    assert (frame.shape, frame.dtype) == ((120, 200, 3), np.uint8)


def test_darkness_and_haze_take_contrast_away() -> None:
    clear = CameraConditions(light=(1.0, 1.0), blur_px=(0.3, 0.3), haze=(0.0, 0.0), noise_counts=(0.0, 0.0))
    dim = CameraConditions(light=(0.2, 0.2), blur_px=(0.3, 0.3), haze=(0.5, 0.5), noise_counts=(0.0, 0.0))
    bright = SiteGenerator(camera_conditions=clear).scene(4, np.random.default_rng(1))
    faint = SiteGenerator(camera_conditions=dim).scene(4, np.random.default_rng(1))
    assert faint.std() < 0.2 * bright.std()


def test_a_flight_visits_every_site_once_a_round() -> None:
    flight = SyntheticFlight(3, dwell_s=2.0)
    for number in range(4):
        stays = range(number * len(SITE_LABELS), (number + 1) * len(SITE_LABELS))
        assert sorted(flight.class_at(2.0 * stay + 1.0) for stay in stays) == list(CLASSES)


def test_a_flight_can_be_asked_in_any_order_by_any_process() -> None:
    forward, backward = SyntheticFlight(9), SyntheticFlight(9)
    numbers = (0, 1, 89, 90, 200, 10_000_000)
    frames = {n: forward.frame(n) for n in numbers}
    chunks = {n: forward.radio_chunk(n) for n in numbers}
    for n in reversed(numbers):
        np.testing.assert_array_equal(backward.frame(n), frames[n])
        np.testing.assert_array_equal(backward.radio_chunk(n), chunks[n])


def test_other_seeds_make_other_flights() -> None:
    assert not np.array_equal(SyntheticFlight(1).frame(0), SyntheticFlight(2).frame(0))
    assert not np.array_equal(SyntheticFlight(1).radio_chunk(0), SyntheticFlight(2).radio_chunk(0))


def test_frames_of_one_stay_show_the_same_place_drifting() -> None:
    clear = CameraConditions(light=(1.0, 1.0), blur_px=(0.3, 0.3), haze=(0.0, 0.0), noise_counts=(2.0, 2.0))
    flight = SyntheticFlight(5, generator=SiteGenerator(camera_conditions=clear))
    first, next_one, last, elsewhere = (flight.frame(n).astype(float).ravel() for n in (0, 1, 89, 91))
    near = np.corrcoef(first, next_one)[0, 1]
    assert near > 0.85
    assert near > abs(np.corrcoef(first, last)[0, 1])
    assert near > abs(np.corrcoef(first, elsewhere)[0, 1])


def test_the_track_is_that_of_a_slow_aircraft() -> None:
    flight = SyntheticFlight(1)
    poses = [flight.pose_at(0.5 * n) for n in range(400)]
    north_m = np.diff([pose.latitude_deg for pose in poses]) * 111_320
    east_m = np.diff([pose.longitude_deg for pose in poses]) * 111_320 * np.cos(np.radians(poses[0].latitude_deg))
    speed_m_s = np.hypot(north_m, east_m) / 0.5
    assert 0.5 < speed_m_s.min() < speed_m_s.max() < 20.0
    course_rad = np.arctan2(east_m, north_m) % (2 * np.pi)
    yaw_rad = np.array([flight.pose_at(0.5 * n + 0.25).yaw_rad for n in range(399)])
    assert np.abs(np.angle(np.exp(1j * (course_rad - yaw_rad)))).max() < 0.05
    assert poses[10].capture_ns == 5_000_000_000


@pytest.mark.parametrize("sensor", ["radio", "camera"])
def test_a_live_flight_sends_what_the_clock_says_is_below(sensor: str) -> None:
    clock = VirtualClock(100_000_000_123)
    sender, messages = kept_sender(clock)
    source = SyntheticSource(stream="x", sensor=sensor, seed=4)
    play_synthetic(source, 20.0, sender, virtual_pacer(clock, limit_s=0.52))
    flight = SyntheticFlight(4, radio_rate_hz=20.0, camera_rate_hz=20.0)
    numbers = [round(header.capture_ns * 20 / 1e9) for header, _ in messages]
    assert numbers == list(range(2001, 2011))
    make = flight.radio_chunk if sensor == "radio" else flight.frame
    for n, (header, payload) in zip(numbers, messages, strict=True):
        assert header.capture_ns == n * 50_000_000
        np.testing.assert_array_equal(as_array(header, payload), make(n))
