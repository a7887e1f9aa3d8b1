"""SkyDet: what flies there, airplane, bird, drone or helicopter, by a thermal and a visible camera on the ground.

An example is one crop of each camera, thermal and visible (64, 64, 3) BGR uint8, of the same class but not of the same
moment: the cameras' clips are paired by class. The thermal crop's one channel stands in all three, so that it passes
through the image recipe as it would from a thermal camera's 8-bit stream.

Split: by clip, never by frame; each class of each camera holds a share of its clips back. Clips are all the origin
names: which of them show the same flight is not known. Validation examples come from seeds of their own, each class
equally often.

Source: Svanstrom et al., "A dataset for multi-sensor drone detection", Data in Brief 39 (2021). Licence: CC0-1.0.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.errors import ConfigError, InputError
from models.spec import ImageRecipe, ModalitySpec
from trainer.data.arrays import load_arrays
from trainer.data.augmentation import upright_part
from trainer.data.examples import Example

CLASSES = ("airplane", "bird", "drone", "helicopter")
VALIDATION_SEED = 104_729
CROP_PX = 64

_PREFIXES = {"thermal": "ir", "visible": "v"}  # of the arrays, by modality
_CHANNELS = {"thermal": 1, "visible": 3}
_LEAST_PART = 52 / CROP_PX


class SkyDetData(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="skydet"):
    """Where the crops lie, and which clips validate."""

    root: str = "../shared/data"
    """Folder that holds sky_multisensor."""
    held_share: float = 0.25
    """Of the clips of each class and camera, for validation; at least one clip is on either side."""
    split_seed: int = 0
    """Of the choice of clips."""
    validation_examples: int = 600

    def __post_init__(self) -> None:
        if not 0 < self.held_share < 1:
            raise ValueError(f"held_share is {self.held_share}: expected above 0 to below 1")
        if not 0 <= self.split_seed < 2**31:
            raise ValueError(f"split_seed is {self.split_seed}: expected 0 to 2147483647")
        if not 1 <= self.validation_examples <= 1_000_000:
            raise ValueError(f"validation_examples is {self.validation_examples}: expected 1 to 1000000")


@dataclass(frozen=True, kw_only=True, slots=True)
class Camera:
    """The crops of one camera."""

    crops: NDArray[np.uint8]
    """(crops, 64, 64, 3), BGR."""
    clips: NDArray[Any]
    """Clip of each crop: split by this, never by crop."""
    training: tuple[dict[str, NDArray[np.int64]], ...]
    """Per label: clip -> its crops."""
    validation: tuple[dict[str, NDArray[np.int64]], ...]
    """Per label: clip -> its crops."""


class SkyDet:
    """The crops of one file, split by clip."""

    classes = CLASSES
    licence = "CC0-1.0"

    def __init__(self, config: SkyDetData, modalities: tuple[ModalitySpec, ...]) -> None:
        """Read the crops.

        Raises:
            InputError: the file is missing or damaged.
            ConfigError: the modalities are not the data set's.
        """
        for modality in modalities:
            if modality.name not in _PREFIXES or not isinstance(modality.recipe, ImageRecipe):
                raise ConfigError(
                    f"modality {modality.name} with {modality.recipe}: SkyDet delivers `thermal` and `visible`,"
                    " both of kind image"
                )
        path = Path(config.root) / "sky_multisensor" / "skydet_dev.npz"
        arrays = _checked_arrays(path)
        self.config = config
        self.cameras = {name: _camera(arrays, name, config) for name in _PREFIXES}

    def training_example(self, rng: np.random.Generator, progress: float) -> Example:
        """Draw a class, and for each camera a clip and a crop, mirrored and cut at random; there is no curriculum."""
        label = int(rng.integers(len(CLASSES)))
        sensors = {
            name: upright_part(camera.crops[_draw(camera.training[label], rng)], _LEAST_PART, rng)
            for name, camera in self.cameras.items()
        }
        return Example(label=label, sensors=sensors)

    def validation_examples(self) -> Iterator[Example]:
        """Yield examples of each class in turn."""
        for n in range(self.config.validation_examples):
            label, rng = n % len(CLASSES), np.random.default_rng([VALIDATION_SEED, n])
            sensors = {
                name: camera.crops[_draw(camera.validation[label], rng)] for name, camera in self.cameras.items()
            }
            yield Example(label=label, sensors=sensors)


def _draw(clips: dict[str, NDArray[np.int64]], rng: np.random.Generator) -> int:
    """Return a random crop of a random clip: a clip of many crops counts as much as one of few."""
    crops = clips[list(clips)[rng.integers(len(clips))]]
    return int(crops[rng.integers(len(crops))])


def _camera(arrays: dict[str, NDArray[Any]], name: str, config: SkyDetData) -> Camera:
    prefix = _PREFIXES[name]
    crops, labels, clips = (arrays[f"{prefix}_{part}"] for part in ("x", "y", "clip"))
    training, validation = [], []
    for label in range(len(CLASSES)):
        rng = np.random.default_rng([config.split_seed, list(_PREFIXES).index(name), label])
        names = rng.permutation(np.unique(clips[labels == label]))
        held = min(max(round(config.held_share * len(names)), 1), len(names) - 1)
        of_clip = {str(clip): np.flatnonzero((clips == clip) & (labels == label)) for clip in names}
        validation.append({str(clip): of_clip[str(clip)] for clip in names[:held]})
        training.append({str(clip): of_clip[str(clip)] for clip in names[held:]})
    bgr = np.ascontiguousarray(np.broadcast_to(crops[..., ::-1], (*crops.shape[:3], 3)))
    return Camera(crops=bgr, clips=clips, training=tuple(training), validation=tuple(validation))


def _checked_arrays(path: Path) -> dict[str, NDArray[Any]]:
    wanted = [f"{prefix}_{part}" for prefix in _PREFIXES.values() for part in ("x", "y", "clip")]
    arrays = load_arrays(path, (*wanted, "classes"), "SkyDet")
    if tuple(str(name).lower() for name in arrays["classes"]) != CLASSES:
        raise InputError(f"{path}: classes {arrays['classes']}: expected {', '.join(CLASSES)}, copy the data set again")
    for name, prefix in _PREFIXES.items():
        crops, labels, clips = (arrays[f"{prefix}_{part}"] for part in ("x", "y", "clip"))
        if crops.shape != (len(labels), CROP_PX, CROP_PX, _CHANNELS[name]) or crops.dtype != np.uint8:
            raise InputError(f"{path}: {prefix}_x is {crops.dtype} {crops.shape}: copy the data set again")
        few = [CLASSES[n] for n in range(len(CLASSES)) if len(np.unique(clips[labels == n])) < 2]
        if len(clips) != len(labels) or few:
            raise InputError(f"{path}: fewer than two {name} clips of {', '.join(few)}: copy the data set again")
    return arrays
