"""What sensors deliver when they are dead, the same every time: what an evaluation shows a model.

Training draws its own, at random: `outliers.py`.
"""

import numpy as np
from numpy.typing import NDArray

from models.preprocess import preprocess
from models.spec import ImageRecipe, IqRecipe, Recipe

SEED = 20_252
_NOISE_WINDOWS = 64
_GREY_LEVELS = range(16, 256, 16)


def dead_inputs(recipe: Recipe) -> dict[str, NDArray[np.float32]]:
    """Return preprocessed inputs of each kind of death, (inputs, *input_shape).

    Radio: `noise`, windows of white noise and nothing else. Camera: `black`, `overexposed` (all white), `blank` (one
    grey level, in steps from 16 to 240). Row of numbers: `level`, the mean of training all along.
    """
    if isinstance(recipe, IqRecipe):
        rng = np.random.default_rng(SEED)
        return {"noise": _inputs(recipe, rng.standard_normal((_NOISE_WINDOWS, recipe.window_samples, 2), np.float32))}
    if isinstance(recipe, ImageRecipe):
        shape = (recipe.height_px, recipe.width_px, 3)
        grey = [np.full(shape, level, np.uint8) for level in (0, 255, *_GREY_LEVELS)]
        inputs = _inputs(recipe, np.stack(grey))
        return {"black": inputs[:1], "overexposed": inputs[1:2], "blank": inputs[2:]}
    return {"level": np.zeros((1, *recipe.input_shape), np.float32)}


def _inputs(recipe: Recipe, sensors: NDArray[np.float32] | NDArray[np.uint8]) -> NDArray[np.float32]:
    out = np.empty((len(sensors), *recipe.input_shape), np.float32)
    for sensor, one in zip(sensors, out, strict=True):
        preprocess(sensor, recipe, one)
    return out
