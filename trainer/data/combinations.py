"""PairProduct-9 and PairXor-3: three scenes with three emitters in every combination, so that no sensor tells it all.

An example is one aerial scene, image (128, 128, 3) BGR uint8, and one window of radio, iq (8192, 2) float32, drawn
independently of each other and corrupted as UAVPair-7 is. PairProduct-9 asks for both (9 classes: either sensor alone
is right in a third at best, so a lazy one shows). PairXor-3 asks for (scene + emitter) mod 3: either sensor alone knows
nothing, and neither does any sum of what they say alone.

Split: UAVPair-7's lists of recordings and images. Validation examples come from seeds of their own, each combination
equally often. Source and licence: those of UAVPair-7, recordings of which the origin states no licence.
"""

import dataclasses
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np

from models.spec import ModalitySpec
from trainer.data.examples import Example
from trainer.data.pairs import LICENCE, as_example, check_modality, draw_example, eased
from trainer.data.uavpair7 import CLASSES, EMITTERS, PAIR_SEED, PRESETS, SCENES, Pair, Part, Preset, UavPair7

SCENE_NAMES = ("gParking", "bField", "eForest")
EMITTER_NAMES = ("brennstuhl_rcs_2044", "auriol", "oregon_scientific")
BALANCED = tuple(name for name, preset in PRESETS.items() if preset.imbalance == 1)
"""Presets that these sets can have."""

_KINDS = len(SCENE_NAMES)
_SCENES = [SCENES.index(name) for name in SCENE_NAMES]
_EMITTERS = [EMITTERS.index(name) for name in EMITTER_NAMES]


class _CombinationsData(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind"):
    root: str = "../shared/data"
    """Folder that holds rf_ism433, scenes_rsscn7 and uavpair7."""
    preset: str = "mid"
    has_curriculum: bool = True
    """Begin with strong radio and come down to the preset over the first half of training."""
    validation_examples: int = 450

    def __post_init__(self) -> None:
        if self.preset not in BALANCED:
            raise ValueError(f"preset {self.preset!r}: known for combinations are {', '.join(BALANCED)}")
        if not 1 <= self.validation_examples <= 1_000_000:
            raise ValueError(f"validation_examples is {self.validation_examples}: expected 1 to 1000000")


class PairProduct9Data(_CombinationsData, frozen=True, tag="pairproduct9"):
    """Which scene and which emitter."""


class PairXor3Data(_CombinationsData, frozen=True, tag="pairxor3"):
    """The sum, mod 3, of the scene's and the emitter's index."""


class Combinations:
    """Either data set of one root and one preset."""

    licence = LICENCE

    def __init__(self, config: PairProduct9Data | PairXor3Data, modalities: tuple[ModalitySpec, ...]) -> None:
        """Read the recordings.

        Raises:
            InputError: files are missing or damaged.
            ConfigError: the modalities are not the data set's.
        """
        for modality in modalities:
            check_modality(modality)
        self.config = config
        self.data = UavPair7(Path(config.root))
        self.preset = PRESETS[config.preset]
        self.asks_sum = isinstance(config, PairXor3Data)
        self.classes = SUM_CLASSES if self.asks_sum else PRODUCT_CLASSES

    @cached_property
    def training(self) -> Part:
        """What training draws from."""
        return Part(self.data, "training")

    @cached_property
    def validation(self) -> Part:
        """What validation draws from."""
        return Part(self.data, "validation")

    def training_example(self, rng: np.random.Generator, progress: float) -> Example:
        """Draw a combination and an example of it, augmented."""
        preset = eased(self.preset, progress) if self.config.has_curriculum else self.preset
        pair = self.pair("training", int(rng.integers(_KINDS**2)), preset, rng)
        return draw_example(self.data, pair, rng)

    def validation_examples(self) -> Iterator[Example]:
        """Yield examples of each combination in turn."""
        for n in range(self.config.validation_examples):
            rng = np.random.default_rng([PAIR_SEED, _KINDS**2, n])
            pair = self.pair("validation", n % _KINDS**2, self.preset, rng)
            yield as_example(self.data.example(pair, rng), pair)

    def pair(
        self, side: Literal["training", "validation"], combination: int, preset: Preset, rng: np.random.Generator
    ) -> Pair:
        """Draw the files and the corruption of a combination, 0 to 8."""
        scene, emitter = divmod(combination, _KINDS)
        part = self.training if side == "training" else self.validation
        drawn = part.pair_of(_SCENES[scene], _EMITTERS[emitter], preset, rng)
        return dataclasses.replace(drawn, label=sum_label(scene, emitter) if self.asks_sum else combination)


def sum_label(scene: int, emitter: int) -> int:
    """Return PairXor-3's label of a scene's and an emitter's index."""
    return (scene + emitter) % _KINDS


PRODUCT_CLASSES = tuple(f"{CLASSES[scene]}+{emitter}" for scene in _SCENES for emitter in EMITTER_NAMES)
SUM_CLASSES = tuple(f"sum_{n}" for n in range(_KINDS))
