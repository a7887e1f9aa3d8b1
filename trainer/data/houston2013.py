"""Houston2013: pixels of a university campus by 144 hyperspectral bands and 21 LiDAR values, fifteen classes of cover.

An example is one pixel: hsi (144,) float32 reflectance, lidar (21,) float32, 0 to 1; both of recipe kind vector. With
`lidar_bins`, each LiDAR value is given as how far it lies through each of so many bins: heights of one kind of cover
are intervals, which a small network finds more easily so.

Split: by connected training region, never by pixel, since neighbours are all but copies (pixels at random: LiDAR alone
0.99 right against 0.5 by region). Each class deals its regions to the folds; one fold validates, the others train. The
two classes of a single region, synthetic grass and tennis court, are always trained and never validated.
The official test pixels are here with their LiDAR alone: `validation: official` asks with the hyperspectral missing.
Neither figure is comparable with published overall accuracies.

Source: Debes et al., "Hyperspectral and LiDAR data fusion: outcome of the 2013 GRSS data fusion contest", IEEE JSTARS 7
(2014). Licence: the scene is of the University of Houston and IEEE GRSS, its arrays come from a GPL-3.0 repository.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.errors import ConfigError, InputError
from models.spec import ModalitySpec, VectorRecipe
from trainer.data.arrays import load_arrays
from trainer.data.examples import Example

CLASSES = (
    "healthy_grass",
    "stressed_grass",
    "synthetic_grass",
    "trees",
    "soil",
    "water",
    "residential",
    "commercial",
    "road",
    "highway",
    "railway",
    "parking_lot_1",
    "parking_lot_2",
    "tennis_court",
    "running_track",
)
VALUES = {"hsi": 144, "lidar": 21}
"""Numbers in a row, by modality."""
ALWAYS_TRAINED = -1
"""In place of a fold: the region of a class that has no other."""

_SHAPES = {
    "hsi_train": (VALUES["hsi"],),
    "lidar_train": (VALUES["lidar"],),
    "y_train": (),
    "roi_train": (),
    "lidar_test": (VALUES["lidar"],),
    "y_test": (),
}


class Houston2013Data(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="houston2013"
):
    """Where the pixels lie, and which of them validate."""

    root: str = "../shared/data"
    """Folder that holds houston2013."""
    folds: int = 2
    """Parts that the regions are dealt to; with more than two, a class of few regions is not in every one."""
    fold: int = 0
    """The part that validates, from 0."""
    split_seed: int = 0
    """Of the dealing."""
    lidar_bins: int = 1
    """Numbers that a LiDAR value is given as: its way through each of so many quantile bins of the training pixels, 0
    to 1; with 1 the value itself."""
    validation: Literal["regions", "official"] = "regions"
    """regions: the fold, both modalities; official: the test pixels of the contest, hsi missing."""

    def __post_init__(self) -> None:
        if not 2 <= self.folds <= 20 or not 0 <= self.fold < self.folds:
            raise ValueError(f"fold {self.fold} of {self.folds}: expected folds 2 to 20, and fold from 0 below it")
        if not 0 <= self.split_seed < 2**31:
            raise ValueError(f"split_seed is {self.split_seed}: expected 0 to 2147483647")
        if not 1 <= self.lidar_bins <= 64:
            raise ValueError(f"lidar_bins is {self.lidar_bins}: expected 1 to 64")


class Houston2013:
    """The pixels of one file, split by region."""

    classes = CLASSES
    licence = "Houston2013 scene of the University of Houston and IEEE GRSS, arrays GPL-3.0: cite, do not distribute"

    def __init__(self, config: Houston2013Data, modalities: tuple[ModalitySpec, ...]) -> None:
        """Read the pixels.

        Raises:
            InputError: the file is missing or damaged.
            ConfigError: the modalities are not the data set's.
        """
        for modality in modalities:
            _check_modality(modality, config.lidar_bins)
        path = Path(config.root) / "houston2013" / "houston2013.npz"
        arrays = _checked_arrays(path)
        self.config = config
        self.labels = arrays["y_train"].astype(np.int64) - 1
        self.regions = arrays["roi_train"]
        """Training region of each pixel: split by this, never by pixel."""
        self.test_labels = arrays["y_test"].astype(np.int64) - 1
        folds = deal_regions(self.labels, self.regions, config.folds, config.split_seed)
        self.validation = np.flatnonzero(folds == config.fold)
        """Pixels that validate."""
        self.training = np.flatnonzero(folds != config.fold)
        """Pixels that train."""
        self._hsi = arrays["hsi_train"].astype(np.float32)
        self._lidar, self._test_lidar = self._lidar_rows(arrays["lidar_train"] / 255, arrays["lidar_test"] / 255)
        self._of_label = [self.training[self.labels[self.training] == label] for label in range(len(CLASSES))]

    def training_example(self, rng: np.random.Generator, progress: float) -> Example:
        """Draw a class, then one of its pixels; there is no curriculum."""
        pixels = self._of_label[rng.integers(len(CLASSES))]
        return self._example(int(pixels[rng.integers(len(pixels))]))

    def validation_examples(self) -> Iterator[Example]:
        """Yield the fold's pixels, or the official ones without hsi."""
        if self.config.validation == "regions":
            yield from (self._example(int(pixel)) for pixel in self.validation)
            return
        for label, lidar in zip(self.test_labels, self._test_lidar, strict=True):
            yield Example(label=int(label), sensors={"hsi": None, "lidar": lidar})

    def _lidar_rows(self, *parts: NDArray[np.float64]) -> tuple[NDArray[np.float32], ...]:
        """Return rows as the branch takes them; what a bin is follows from the training pixels of the first part."""
        if self.config.lidar_bins > 1:
            edges = np.quantile(parts[0][self.training], np.linspace(0, 1, self.config.lidar_bins + 1), axis=0).T
            parts = tuple(way_through_bins(rows, edges) for rows in parts)
        return tuple(rows.astype(np.float32) for rows in parts)

    def _example(self, pixel: int) -> Example:
        sensors = {"hsi": self._hsi[pixel], "lidar": self._lidar[pixel]}
        return Example(label=int(self.labels[pixel]), sensors=sensors, source=f"pixel {pixel}")


def deal_regions(labels: NDArray[Any], regions: NDArray[Any], folds: int, seed: int) -> NDArray[np.int64]:
    """Return each pixel's fold; all pixels of a region have the same.

    Each class deals its regions, the largest first, to the fold that has the fewest of its pixels so far; ties go by
    the seed. So the folds hold about as much of a class, and none holds all of it.

    Returns:
        (pixels,), 0 to folds - 1, or ALWAYS_TRAINED for a class of one region.
    """
    dealt = np.full(len(labels), ALWAYS_TRAINED, np.int64)
    for label in np.unique(labels):
        rng = np.random.default_rng([seed, int(label)])
        names, pixels = np.unique(regions[labels == label], return_counts=True)
        if len(names) < 2:
            continue
        counts, turn = np.zeros(folds, np.int64), rng.permutation(folds)
        shuffled = rng.permutation(len(names))
        for n in shuffled[np.argsort(-pixels[shuffled], kind="stable")]:
            fold = turn[np.argmin(counts[turn])]
            counts[fold] += pixels[n]
            dealt[(labels == label) & (regions == names[n])] = fold
    return dealt


def way_through_bins(rows: NDArray[np.float64], edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how far each value lies through each of its bins: 1 above, 0 below, between them in proportion.

    Args:
        rows: (pixels, values), 0 to 1 in steps of 1 / 255.
        edges: (values, bins + 1), ascending; an empty bin is a step.
    Returns:
        (pixels, values x bins).
    """
    low, high = edges[:, :-1], edges[:, 1:]
    ways: NDArray[np.float64] = np.clip((rows[:, :, None] - low) / np.maximum(high - low, 1 / 255), 0.0, 1.0)
    return ways.reshape(len(rows), -1)


def _check_modality(modality: ModalitySpec, lidar_bins: int) -> None:
    recipe = modality.recipe
    delivered = {"hsi": VALUES["hsi"], "lidar": VALUES["lidar"] * lidar_bins}
    if not isinstance(recipe, VectorRecipe) or delivered.get(modality.name) != recipe.values:
        expected = " and ".join(f"`{name}` of kind vector with {values} values" for name, values in delivered.items())
        raise ConfigError(f"modality {modality.name} with {recipe}: Houston2013 delivers {expected}")


def _checked_arrays(path: Path) -> dict[str, NDArray[Any]]:
    arrays = load_arrays(path, _SHAPES, "Houston2013")
    for name, row in _SHAPES.items():
        expected = (len(arrays["y_test" if name.endswith("test") else "y_train"]), *row)
        if arrays[name].shape != expected:
            raise InputError(f"{path}: {name} is {arrays[name].shape}: expected {expected}, copy the data set again")
    labels, regions = arrays["y_train"], arrays["roi_train"]
    if set(np.unique(labels)) != set(range(1, len(CLASSES) + 1)):
        raise InputError(f"{path}: y_train lacks a class of 1 to {len(CLASSES)}: copy the data set again")
    if len(np.unique(np.stack([labels, regions]), axis=1).T) != len(np.unique(regions)):
        raise InputError(f"{path}: a region of roi_train has pixels of two classes: copy the data set again")
    return arrays
