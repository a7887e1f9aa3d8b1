"""Inputs that say nothing: a dead radio, a blank, over-exposed or stuck camera, a row of noise or of one level. Doubt
is the only right answer to them.

A sensor that is frozen as a whole, whose last frame comes again and again, shows what was there: nothing in one frame
tells it, so the quality gate looks for it. What is frozen within a frame or window is here: a line that is read out
again for every other (`stuck`), a buffer that repeats its beginning.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.preprocess import preprocess
from models.spec import ImageRecipe, IqRecipe, Recipe, VectorRecipe

_FRAME_PX = 64
_IQ_KINDS = ("noise", "coloured", "tone", "silent", "stuck")
_IQ_SHARES = (0.7, 0.1, 0.1, 0.05, 0.05)
_IMAGE_KINDS = ("black", "white", "blank", "noise", "ramp", "overexposed", "stuck")
_PATCHES = 8
"""Coarse patches of light and dark along each side of what an over-exposed camera looks at."""


def draw_outlier(recipe: Recipe, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return one preprocessed outlier, of the recipe's input shape."""
    out = np.empty(recipe.input_shape, np.float32)
    preprocess(_dead_sensor(recipe, rng), recipe, out)
    return out


def _dead_sensor(recipe: Recipe, rng: np.random.Generator) -> NDArray[Any]:
    if isinstance(recipe, IqRecipe):
        return _dead_radio(recipe.window_samples, rng)
    return _dead_camera(rng) if isinstance(recipe, ImageRecipe) else _dead_row(recipe, rng)


def _dead_row(recipe: VectorRecipe, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return (values,): noise of the usual size, or the same level all along, in the recipe's units."""
    draws = recipe.values if rng.random() < 0.5 else 1
    return np.full(recipe.values, recipe.mean) + np.array(recipe.std) * rng.normal(0.0, 1.5, draws)


def _dead_radio(samples: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return (samples, 2): mostly receiver noise, at times filtered noise, a carrier, a stuck buffer, or nothing."""
    kind = rng.choice(_IQ_KINDS, p=_IQ_SHARES)
    noise = rng.standard_normal((samples, 2), dtype=np.float32)
    if kind == "coloured":
        taps = int(rng.integers(2, 9))
        for part in noise.T:
            part[:] = np.convolve(part, np.ones(taps, np.float32), "same")
    if kind == "tone":
        phase = 2 * np.pi * (rng.uniform(-0.45, 0.45) * np.arange(samples) + rng.random())
        noise *= np.float32(rng.uniform(0.05, 2.0))
        noise += np.stack([np.cos(phase), np.sin(phase)], axis=1)
    if kind == "stuck":
        noise = np.resize(noise[: rng.integers(2, max(samples // 8, 3))], noise.shape)
    if kind == "silent":
        noise[:] = 0.0
    return noise


def _dead_camera(rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return a BGR frame that shows no ground, with the sensor's noise on it."""
    kind = rng.choice(_IMAGE_KINDS)
    level = {"black": rng.uniform(0, 25), "white": rng.uniform(225, 255)}.get(kind, rng.uniform(20, 235))
    frame = np.full((_FRAME_PX, _FRAME_PX, 3), level)
    if kind == "overexposed":
        frame = _overexposed(rng)
    if kind == "stuck":
        line = rng.uniform(0, 255, (1, _FRAME_PX, 3))
        frame[:] = line if rng.random() < 0.5 else line.transpose(1, 0, 2)
    if kind in ("blank", "ramp"):
        frame *= rng.uniform(0.7, 1.2, size=3)
    if kind == "ramp":
        y, x = np.mgrid[0 : 1 : _FRAME_PX * 1j, 0 : 1 : _FRAME_PX * 1j]
        frame *= (0.5 + rng.uniform(-0.5, 0.5) * x + rng.uniform(-0.5, 0.5) * y)[:, :, None]
    sigma = rng.uniform(20, 90) if kind == "noise" else rng.uniform(0, 12)
    frame += rng.normal(0.0, sigma, frame.shape)
    out: NDArray[np.uint8] = np.clip(frame, 0, 255).astype(np.uint8)
    return out


def _overexposed(rng: np.random.Generator) -> NDArray[np.float64]:
    """Return a scene of patches, nearly all brighter than a pixel can be."""
    size = _FRAME_PX // _PATCHES
    patches = rng.uniform(0.1, 1.0, (_PATCHES, _PATCHES, 1)) * rng.uniform(0.8, 1.0, 3)
    scene = np.kron(patches, np.ones((size, size, 1)))
    exposed: NDArray[np.float64] = scene * (255 / np.quantile(scene, rng.uniform(0.01, 0.15)))
    return exposed
