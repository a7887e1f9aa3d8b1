"""Synthetic sites and flights over them: everything can be tried without hardware and without data.

A site is a kind of ground with its own emitter. Grounds that look alike in the dark (crop rows and orchards, houses
and halls, car parks and solar panels, forest and lake) have emitters that do not sound alike, and the other way round,
so that each sensor alone often errs where the other is sure.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from edge.sources import synthetic_radio as radio
from edge.sources import synthetic_scene as scene
from edge.sources.synthetic_camera import CameraConditions, View, draw_view, photograph
from edge.sources.synthetic_radio import RadioConditions
from edge.transport.messages import Pose
from models.preprocess import opencv

_SITES: tuple[tuple[str, scene.Scene, radio.Emitter], ...] = (
    ("farmland", scene.farmland, radio.chirp),
    ("orchard", scene.orchard, radio.on_off),
    ("residential", scene.residential, radio.fsk2),
    ("industry", scene.industry, radio.ofdm),
    ("parking", scene.parking, radio.ask_preamble),
    ("solar_farm", scene.solar_farm, radio.gfsk),
    ("forest", scene.forest, radio.fsk4),
    ("lake", scene.lake, radio.spread_bpsk),
)
SITE_LABELS: tuple[str, ...] = tuple(label for label, _, _ in _SITES)
"""Class labels in index order."""

_MARGIN_PX = 120
_ORDER, _GROUND, _FRAME, _RADIO, _TRACK = range(5)
"""Purposes that random numbers are drawn for; each has its own stream."""
_METRES_PER_DEGREE = 111_320.0


class SiteGenerator:
    """Makes examples of sites: independent windows and frames, in all conditions."""

    def __init__(
        self,
        *,
        chunk_samples: int = 4096,
        sample_rate_hz: int = 1_000_000,
        frame_px: tuple[int, int] = (240, 320),
        radio_conditions: RadioConditions | None = None,
        camera_conditions: CameraConditions | None = None,
    ) -> None:
        self.chunk_samples = chunk_samples
        self.sample_rate_hz = sample_rate_hz
        self.frame_px = frame_px
        """Height and width."""
        self.radio_conditions = radio_conditions or RadioConditions()
        self.camera_conditions = camera_conditions or CameraConditions()

    def radio(self, class_id: int, rng: np.random.Generator) -> NDArray[np.int16]:
        """Return a window of a site's emitter, (chunk_samples, 2) interleaved I and Q."""
        emitter = _SITES[class_id][2]
        return radio.receive(emitter, self.chunk_samples, self.sample_rate_hz, self.radio_conditions, rng)

    def scene(self, class_id: int, rng: np.random.Generator) -> NDArray[np.uint8]:
        """Return a frame over a site, (height, width, 3) BGR."""
        ground = self.ground(class_id, rng)
        return photograph(ground, draw_view(self.camera_conditions, rng), rng)

    def ground(self, class_id: int, rng: np.random.Generator, margin_px: int = 0) -> NDArray[np.uint8]:
        """Return a site in full daylight, wider than a frame by `margin_px` on each side."""
        height, width = self.frame_px
        return scene.draw(_SITES[class_id][1], height + 2 * margin_px, width + 2 * margin_px, rng)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Site:
    """One place of a flight: its ground, the conditions there, and how it drifts through the picture."""

    ground: NDArray[np.uint8]
    view: View
    drift: NDArray[np.float64]
    """(x, y) of the frame's corner in the ground, pixels, at the beginning and at the end of the stay."""


class SyntheticFlight:
    """A flight over random sites, each class in turn in shuffled rounds; any moment can be asked for.

    Two objects with equal arguments make the same flight, so radio and camera may be different processes.
    """

    def __init__(
        self,
        seed: int,
        dwell_s: float = 3.0,
        radio_rate_hz: float = 100.0,
        camera_rate_hz: float = 30.0,
        *,
        generator: SiteGenerator | None = None,
    ) -> None:
        self.seed = seed
        self.dwell_s = dwell_s
        self.radio_rate_hz = radio_rate_hz
        self.camera_rate_hz = camera_rate_hz
        self.generator = generator or SiteGenerator()
        self._site: Callable[[int], _Site] = lru_cache(maxsize=2)(self._make_site)
        self._round: Callable[[int], NDArray[np.int64]] = lru_cache(maxsize=4)(self._make_round)

    def class_at(self, t_s: float) -> int:
        """Return the class of the site below at a time of the flight."""
        return self._class_of(self._stay(t_s))

    def radio_chunk(self, n: int) -> NDArray[np.int16]:
        """Return the n-th window of the radio, (chunk, 2)."""
        return self.generator.radio(self.class_at(n / self.radio_rate_hz), self._random(_RADIO, n))

    def frame(self, n: int) -> NDArray[np.uint8]:
        """Return the n-th frame of the camera, (height, width, 3) BGR."""
        t_s = n / self.camera_rate_hz
        stay = self._stay(t_s)
        site = self._site(stay)
        rng = self._random(_FRAME, n)
        part = t_s / self.dwell_s - stay
        x, y = site.drift[0] + part * (site.drift[1] - site.drift[0])
        height, width = self.generator.frame_px
        shift = np.array([[1.0, 0.0, -x], [0.0, 1.0, -y]])
        return photograph(opencv().warpAffine(site.ground, shift, (width, height)), site.view.jittered(rng), rng)

    def pose_at(self, t_s: float) -> Pose:
        """Return where the vehicle is: slow figures of eight at 60 m height over a random field."""
        rng = self._random(_TRACK, 0)
        north, east, turn = rng.uniform(-0.5, 0.5), rng.uniform(-0.5, 0.5), rng.uniform(0.0, 2.0 * np.pi)
        phase = turn + 2.0 * np.pi * t_s / 120.0
        latitude_deg = 47.0 + north + 150.0 * np.sin(phase) / _METRES_PER_DEGREE
        scale = _METRES_PER_DEGREE * np.cos(np.radians(47.0 + north))
        longitude_deg = 8.0 + east + 75.0 * np.sin(2.0 * phase) / scale
        yaw = np.arctan2(np.cos(2.0 * phase), np.cos(phase))
        return Pose(
            capture_ns=round(t_s * 1e9),
            latitude_deg=float(latitude_deg),
            longitude_deg=float(longitude_deg),
            altitude_m=float(460.0 + 2.0 * np.sin(3.0 * phase)),
            roll_rad=float(-0.12 * np.sin(2.0 * phase)),
            pitch_rad=-0.05,
            yaw_rad=float(yaw % (2.0 * np.pi)),
        )

    def _stay(self, t_s: float) -> int:
        return int(np.floor(t_s / self.dwell_s + 1e-9))

    def _class_of(self, stay: int) -> int:
        return int(self._round(stay // len(SITE_LABELS))[stay % len(SITE_LABELS)])

    def _make_round(self, number: int) -> NDArray[np.int64]:
        return self._random(_ORDER, number).permutation(len(SITE_LABELS))

    def _make_site(self, stay: int) -> _Site:
        rng = self._random(_GROUND, stay)
        ground = self.generator.ground(self._class_of(stay), rng, _MARGIN_PX)
        drift = _MARGIN_PX + rng.uniform(-1.0, 1.0, size=(2, 2)) * (_MARGIN_PX - 2)
        return _Site(ground=ground, view=draw_view(self.generator.camera_conditions, rng), drift=drift)

    def _random(self, purpose: int, n: int) -> np.random.Generator:
        return np.random.default_rng((self.seed, purpose, n))
