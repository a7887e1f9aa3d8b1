"""How a camera sees the ground: light, haze, lost colour, blur and noise."""

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from models.preprocess import opencv

_GRAIN_STD = 16.0
_GRAIN_SIZE = 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class CameraConditions:
    """How hard the camera has it: ranges that each view draws from."""

    light: tuple[float, float] = (0.15, 1.15)
    """Exposure relative to full daylight; equally likely in each octave."""
    blur_px: tuple[float, float] = (0.3, 6.0)
    """Standard deviation of the blur in a 320 px wide frame; small values are more likely."""
    haze: tuple[float, float] = (0.0, 0.6)
    """Share of the contrast that is lost to grey."""
    saturation: tuple[float, float] = (0.1, 1.1)
    """Of colours, 1 as they are, 0 grey."""
    noise_counts: tuple[float, float] = (2.0, 14.0)
    """Standard deviation of the noise of a pixel, of 255."""


@dataclass(frozen=True, kw_only=True, slots=True)
class View:
    """One draw of the conditions."""

    light: float
    blur_px: float
    haze: float
    saturation: float
    noise_counts: float
    tint: tuple[float, float, float]

    def jittered(self, rng: np.random.Generator) -> "View":
        """Return this view as the next frame has it: exposure and blur are never quite the same."""
        light = self.light * float(np.clip(rng.normal(1.0, 0.05), 0.8, 1.2))
        return replace(self, light=light, blur_px=self.blur_px * rng.uniform(0.7, 1.3))


def draw_view(conditions: CameraConditions, rng: np.random.Generator) -> View:
    """Return random conditions of one view."""
    least, most = conditions.blur_px
    return View(
        light=float(np.exp(rng.uniform(*np.log(conditions.light)))),
        blur_px=float(least + (most - least) * rng.random() ** 2),
        haze=rng.uniform(*conditions.haze),
        saturation=rng.uniform(*conditions.saturation),
        noise_counts=rng.uniform(*conditions.noise_counts),
        tint=(rng.uniform(0.9, 1.1), 1.0, rng.uniform(0.9, 1.1)),
    )


def photograph(ground: NDArray[np.uint8], view: View, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return what the camera delivers of the ground in front of it, same shape."""
    cv2 = opencv()
    blur_px = view.blur_px * ground.shape[1] / 320.0
    seen = cv2.GaussianBlur(ground, (0, 0), blur_px) if blur_px > 0.4 else ground
    seen = cv2.transform(seen, _colour_matrix(view))
    rows, columns = rng.integers(0, np.maximum(_GRAIN_SIZE - np.array(seen.shape[:2]), 1))
    grain = _grain()[rows : rows + seen.shape[0], columns : columns + seen.shape[1]]
    frame: NDArray[np.uint8] = cv2.addWeighted(seen, 1.0, grain, view.noise_counts / _GRAIN_STD, 0.0, dtype=cv2.CV_8U)
    return frame


def _colour_matrix(view: View) -> NDArray[np.float64]:
    """Return the (3, 4) affine map of BGR: saturation, then haze, then light and tint."""
    grey = np.tile([0.114, 0.587, 0.299], (3, 1))
    colour = view.saturation * np.eye(3) + (1.0 - view.saturation) * grey
    matrix = np.concatenate((colour * (1.0 - view.haze), np.full((3, 1), 130.0 * view.haze)), axis=1)
    return matrix * (view.light * np.array(view.tint))[:, None]


@lru_cache(maxsize=1)
def _grain() -> NDArray[np.int16]:
    """Return the noise that frames take random crops of: drawing it anew costs more than all the rest."""
    rng = np.random.default_rng(20_240_901)
    noise = rng.standard_normal((_GRAIN_SIZE, _GRAIN_SIZE, 3), dtype=np.float32)
    grain: NDArray[np.int16] = (noise * np.float32(_GRAIN_STD)).round().astype(np.int16)
    return grain
