"""Synthetic ground as seen from above: eight kinds of sites, drawn with OpenCV in random scale and rotation.

Lengths are pixels of a 320 x 240 frame; `zoom` scales them. Colours are BGR, 0 to 255, in full daylight.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.preprocess import opencv

Points = NDArray[np.float64]
Colours = NDArray[np.float64]
Bgr = tuple[float, float, float]

_GRASS: Bgr = (70, 120, 95)
_SOIL: Bgr = (75, 105, 135)
_ASPHALT: Bgr = (95, 93, 90)
_CROPS: tuple[Bgr, ...] = ((60, 125, 85), (90, 150, 165), (70, 100, 125), (60, 140, 130))
_ROOFS: tuple[Bgr, ...] = ((70, 80, 160), (85, 95, 120), (110, 110, 115), (75, 100, 145))
_HALLS: tuple[Bgr, ...] = ((190, 190, 185), (140, 140, 140), (165, 150, 120), (110, 120, 160))
_CARS: tuple[Bgr, ...] = ((225, 225, 225), (40, 40, 40), (160, 160, 160), (60, 50, 160), (150, 90, 50))


class Ground:
    """A canvas with a direction, a scale and a sun, on which sites are drawn."""

    def __init__(self, height_px: int, width_px: int, rng: np.random.Generator) -> None:
        self.rng = rng
        self.zoom = rng.uniform(0.8, 1.25)
        self.image: NDArray[np.uint8] = np.zeros((height_px, width_px, 3), dtype=np.uint8)
        angle = rng.uniform(0.0, 2.0 * np.pi)
        self._axes = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        self._middle = np.array([width_px / 2.0, height_px / 2.0]) + rng.uniform(-40.0, 40.0, size=2)
        self._reach = float(np.hypot(height_px, width_px) / 2.0 + 60.0)
        sun = rng.uniform(0.0, 2.0 * np.pi)
        self._shadow = np.array([np.cos(sun), np.sin(sun)]) * rng.uniform(2.0, 7.0)
        self._cv2: Any = opencv()

    def cover(self, colour: Bgr, contrast: float) -> None:
        """Fill everything with a colour, mottled at three scales."""
        height, width = self.image.shape[:2]
        mottle = np.zeros((height, width), dtype=np.float32)
        for cell, share in ((70, 0.55), (18, 0.3), (4, 0.15)):
            coarse = self.rng.standard_normal((height // cell + 2, width // cell + 2), dtype=np.float32)
            mottle += np.float32(share) * self._cv2.resize(coarse, (width, height))
        light = self._cv2.convertScaleAbs(mottle, alpha=128.0 * contrast, beta=128.0)
        table = np.outer(np.arange(256) / 128.0, self._tint(colour))
        for channel in range(3):
            levels = np.clip(table[:, channel], 0, 255).astype(np.uint8)
            self.image[:, :, channel] = self._cv2.LUT(light, levels)

    def _tint(self, colour: Bgr) -> Points:
        return np.array(colour) * self.rng.normal(1.0, 0.12) * self.rng.normal(1.0, 0.05, size=3)

    def grid(self, step_u: float, step_v: float, jitter: float = 0.0) -> Points:
        """Return points (n, 2) on a lattice that covers the canvas, in the site's own directions."""
        reach = self._reach / self.zoom
        u, v = np.meshgrid(np.arange(-reach, reach, step_u), np.arange(-reach, reach, step_v))
        points = np.stack((u.reshape(-1), v.reshape(-1)), axis=1)
        return points + self.rng.uniform(-jitter, jitter, size=points.shape)

    def scatter(self, count: int) -> Points:
        """Return random points (count, 2) over the canvas."""
        return self.rng.uniform(-1.0, 1.0, size=(count, 2)) * self._reach / self.zoom

    def some(self, points: Points, share: float) -> Points:
        """Return a random part of the points."""
        return points[self.rng.random(len(points)) < share]

    def colours(self, palette: tuple[Bgr, ...], count: int, spread: float = 0.12) -> Colours:
        """Return colours (count, 3), each near one of the palette."""
        chosen = np.array(palette)[self.rng.integers(0, len(palette), size=count)]
        return np.clip(chosen * self.rng.normal(1.0, spread, size=(count, 1)), 0, 255)

    def boxes(self, centres: Points, size: Points, colours: Colours, *, shadow: float = 0.0) -> None:
        """Draw rectangles of `size` (n, 2) along the site's directions; `shadow` is their height."""
        corners = np.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]])
        outlines = self._place(centres[:, None, :] + corners * size[:, None, :])
        seen = self._in_sight(outlines.min(axis=1), outlines.max(axis=1))
        if shadow:
            for outline in (outlines[seen] + self._shadow * shadow).round().astype(np.int32):
                self._cv2.fillConvexPoly(self.image, outline, (38, 36, 34))
        for outline, colour in zip(outlines[seen].round().astype(np.int32), colours[seen].tolist(), strict=True):
            self._cv2.fillConvexPoly(self.image, outline, colour)

    def discs(self, centres: Points, radii: NDArray[np.float64], colours: Colours, *, shadow: float = 0.0) -> None:
        """Draw discs with a shadow of height `shadow` and the side towards the sun lighter."""
        radii = np.maximum(radii * self.zoom, 1.0)
        placed = self._place(centres)
        reach = radii[:, None]
        seen = self._in_sight(placed - reach, placed + reach)
        placed, radii, reach, colours = placed[seen], radii[seen], reach[seen], colours[seen]
        dark = [(32.0, 34.0, 30.0)] * len(placed)
        layers = (
            (placed + self._shadow * shadow, radii, dark),
            (placed, radii, (colours * 0.75).tolist()),
            (placed - self._shadow * 0.04 * reach, radii * 0.65, np.minimum(colours * 1.15, 255).tolist()),
        )
        drawn = [
            list(zip(xy.round().astype(int).tolist(), radius.round().astype(int).tolist(), colour, strict=True))
            for xy, radius, colour in layers[0 if shadow else 1 :]
        ]
        for disc in zip(*drawn, strict=True):
            for xy, radius, colour in disc:
                self._cv2.circle(self.image, xy, radius, colour, -1)

    def stripes(self, period: float, contrast: float, wobble: float = 0.0) -> None:
        """Modulate the brightness of everything so far in waves across the site's second direction."""
        height, width = self.image.shape[:2]
        y, x = np.mgrid[0:height, 0:width].astype(np.float32)
        along, across = (self._axes @ np.stack((x.reshape(-1), y.reshape(-1)))).reshape(2, height, width)
        phase = across * (2.0 * np.pi / (period * self.zoom)) + wobble * np.sin(along / (9.0 * period))
        wave = self._cv2.convertScaleAbs(np.sin(phase.astype(np.float32)), alpha=100 * contrast, beta=127)
        self.image = self._cv2.multiply(self.image, self._cv2.merge((wave, wave, wave)), scale=1.0 / 127.0)

    def _place(self, points: Points) -> Points:
        placed: Points = points @ self._axes * self.zoom + self._middle
        return placed

    def _in_sight(self, least: Points, most: Points) -> NDArray[np.bool_]:
        """Say of which boxes, given by their corners (n, 2), any part may lie on the canvas."""
        height, width = self.image.shape[:2]
        overlap = (most > -10.0) & (least < np.array([width + 10.0, height + 10.0]))
        return np.asarray(overlap.all(axis=1))


def farmland(ground: Ground) -> None:
    """Draw crop rows, with a track across some fields."""
    rng = ground.rng
    ground.cover(_CROPS[int(rng.integers(len(_CROPS)))], 0.35)
    ground.stripes(rng.uniform(14.0, 26.0), rng.uniform(0.25, 0.5), wobble=0.8)
    if rng.random() < 0.5:
        tracks = ground.scatter(1)
        ground.boxes(tracks, np.array([[900.0, 12.0]]), ground.colours((_SOIL,), 1))


def orchard(ground: Ground) -> None:
    """Draw rows of round trees on grass or soil."""
    rng = ground.rng
    ground.cover(_GRASS if rng.random() < 0.6 else _SOIL, 0.3)
    row = rng.uniform(20.0, 30.0)
    trees = ground.some(ground.grid(row * rng.uniform(0.55, 0.8), row, jitter=1.5), 0.95)
    radii = row * rng.uniform(0.26, 0.36, size=len(trees))
    ground.discs(trees, radii, ground.colours(((50, 95, 65), (55, 110, 95)), len(trees)), shadow=0.6)


def residential(ground: Ground) -> None:
    """Draw houses along streets, with gardens and trees."""
    rng = ground.rng
    ground.cover(_GRASS, 0.4)
    block = rng.uniform(105.0, 140.0)
    streets = ground.grid(5000.0, block) * np.array([0.0, 1.0])
    ground.boxes(streets, np.tile([2000.0, 17.0], (len(streets), 1)), ground.colours((_ASPHALT,), len(streets)))
    trees = ground.scatter(70)
    ground.discs(trees, rng.uniform(5, 10, len(trees)), ground.colours(((50, 95, 65),), len(trees)), shadow=0.6)
    for side in (-0.27, 0.27):
        houses = ground.some(ground.grid(rng.uniform(44, 60), block, jitter=5.0) + [0.0, block * side], 0.85)
        size = rng.uniform((26, 20), (40, 32), size=(len(houses), 2))
        roofs = ground.colours(_ROOFS, len(houses))
        ground.boxes(houses, size, roofs, shadow=1.0)
        ridge = np.array([0.0, 0.25])
        ground.boxes(houses + size * ridge, size * [1.0, 0.5], roofs * 0.75)


def industry(ground: Ground) -> None:
    """Draw large halls with skylights, tanks and yards."""
    rng = ground.rng
    ground.cover(_ASPHALT, 0.3)
    lawns = ground.scatter(8)
    ground.boxes(lawns, rng.uniform(40, 120, size=(8, 2)), ground.colours((_GRASS,), 8))
    step = rng.uniform(95.0, 130.0)
    halls = ground.some(ground.grid(step, step * 0.8, jitter=8.0), 0.75)
    size = rng.uniform((55, 40), (88, 66), size=(len(halls), 2))
    roofs = ground.colours(_HALLS, len(halls))
    ground.boxes(halls, size, roofs, shadow=1.3)
    for offset in (-0.3, 0.0, 0.3):
        ground.boxes(halls + size * [offset, 0.0], size * [0.06, 0.8], roofs * 0.7)
    tanks = ground.scatter(12)
    ground.discs(tanks, rng.uniform(9, 17, len(tanks)), ground.colours(((205, 205, 200),), len(tanks)), shadow=1.0)


def parking(ground: Ground) -> None:
    """Draw rows of parked cars with marked bays and lanes between."""
    rng = ground.rng
    ground.cover(_ASPHALT, 0.25)
    bay, row = rng.uniform(13.0, 17.0), rng.uniform(62.0, 76.0)
    for side in (-13.0, 13.0):
        bays = ground.grid(bay, row) + [0.0, side]
        ground.boxes(
            bays + [bay / 2, 0.0], np.tile([1.5, 24.0], (len(bays), 1)), ground.colours(((200,) * 3,), len(bays))
        )
        cars = ground.some(bays, rng.uniform(0.45, 0.95))
        size = rng.uniform((8.0, 17.0), (10.0, 21.0), size=(len(cars), 2))
        paint = ground.colours(_CARS, len(cars))
        ground.boxes(cars, size, paint, shadow=0.5)
        ground.boxes(cars, size * [0.8, 0.45], paint * 0.55)


def solar_farm(ground: Ground) -> None:
    """Draw rows of dark panels on grass or gravel."""
    rng = ground.rng
    ground.cover(_GRASS if rng.random() < 0.5 else (120, 135, 140), 0.3)
    length, row = rng.uniform(50.0, 90.0), rng.uniform(34.0, 46.0)
    panels = ground.some(ground.grid(length + 8.0, row), 0.95)
    size = np.tile([length, row * rng.uniform(0.5, 0.62)], (len(panels), 1))
    ground.boxes(panels, size, ground.colours(((95, 65, 50),), len(panels), 0.08), shadow=0.6)
    for offset in (-0.375, -0.125, 0.125, 0.375):
        ground.boxes(panels + size * [offset, 0.0], size * [0.02, 1.0], ground.colours(((165, 150, 140),), len(panels)))


def forest(ground: Ground) -> None:
    """Draw a closed canopy of crowns of many sizes."""
    rng = ground.rng
    ground.cover((42, 72, 52), 0.35)
    crowns = ground.grid(17.0, 17.0, jitter=9.0)
    palette = ((48, 92, 62), (55, 105, 85), (45, 80, 60))
    ground.discs(crowns, rng.uniform(7, 14, len(crowns)), ground.colours(palette, len(crowns)), shadow=0.4)


def lake(ground: Ground) -> None:
    """Draw water with waves, and at times a shore or boats."""
    rng = ground.rng
    ground.cover(((105, 85, 50), (85, 85, 55), (70, 75, 60))[int(rng.integers(3))], 0.3)
    ground.stripes(rng.uniform(9.0, 16.0), rng.uniform(0.05, 0.25), wobble=3.0)
    boats = ground.scatter(int(rng.integers(0, 8)))
    ground.boxes(boats, np.tile([19.0, 7.0], (len(boats), 1)), ground.colours(((220, 220, 220),), len(boats)))
    if rng.random() < 0.35:
        edge = np.array([[0.0, rng.uniform(110, 190)]]) / ground.zoom
        ground.boxes(edge, np.array([[2000.0, 120.0]]), ground.colours((_GRASS,), 1))


Scene = Callable[[Ground], None]


def draw(scene: Scene, height_px: int, width_px: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return the ground of a site in full daylight, (height, width, 3) BGR."""
    ground = Ground(height_px, width_px, rng)
    scene(ground)
    return ground.image
