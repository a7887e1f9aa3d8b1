"""UAVPair-7 as a data set: augmented training examples with a curriculum, and the pairs of a CSV for validation."""

import dataclasses
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.errors import ConfigError
from models.spec import ImageRecipe, IqRecipe, ModalitySpec
from trainer.data.augmentation import aerial_part, turned_in_time
from trainer.data.corruption import BlockDraws, corrupt_scene
from trainer.data.examples import Example
from trainer.data.foreign_radio import TRAINED, ForeignRadio
from trainer.data.uavpair7 import (
    CLASSES,
    PAIR_SEED,
    PRESETS,
    SAMPLE_RATE_HZ,
    WINDOW_SAMPLES,
    Pair,
    PairedExample,
    Part,
    Preset,
    UavPair7,
    as_hard_as,
)

LICENCE = "none stated by the origin of the recordings: local use only, do not distribute"

_EASY_SNR_DB = (-3.0, 8.0)  # where the curriculum begins: the radio must hear bursts before it can learn faint ones
_LEAST_PART = 0.75
"""Of a scene that training shows."""


class UavPair7Data(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="uavpair7"
):
    """Where UAVPair-7 lies, and how hard it is made."""

    root: str = "../shared/data"
    """Folder that holds rf_ism433, scenes_rsscn7 and uavpair7."""
    pairs: str | None = None
    """Pairs CSV for evaluation, as hard as it is written; where none is named, <root>/uavpair7/pairs_val.csv made as
    hard as the preset."""
    preset: str = "mid"
    has_curriculum: bool = True
    """Begin with strong radio and come down to the preset over the first half of training."""
    unknown_share: float = 0.0
    """Of the radio's outliers in training: bursts of emitters of no site, other kinds than evaluation asks about."""

    def __post_init__(self) -> None:
        if self.preset not in PRESETS:
            raise ValueError(f"preset {self.preset!r}: known are {', '.join(PRESETS)}")
        if not 0 <= self.unknown_share <= 1:
            raise ValueError(f"unknown_share is {self.unknown_share}: expected 0 to 1")


class PairedSites:
    """The data set of one root and one preset."""

    classes = CLASSES
    licence = LICENCE

    def __init__(self, config: UavPair7Data, modalities: tuple[ModalitySpec, ...]) -> None:
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

    @cached_property
    def training(self) -> Part:
        """The part that validation leaves; evaluation never asks for it."""
        return Part(self.data, "training")

    def training_example(self, rng: np.random.Generator, progress: float) -> Example:
        """Draw an example, augmented."""
        return draw_example(self.data, self.training.pair(self._preset_at(progress), rng), rng)

    def validation_examples(self) -> Iterator[Example]:
        """Yield the examples of the pairs CSV: of a named one as written, of the root's own as hard as the preset."""
        for row, pair in enumerate(self.pairs):
            yield as_example(self.data.example(pair, np.random.default_rng([PAIR_SEED, row])), pair)

    @cached_property
    def pairs(self) -> tuple[Pair, ...]:
        """What validation asks about."""
        named = self.config.pairs
        path = Path(named) if named else self.data.root / "uavpair7" / "pairs_val.csv"
        pairs = self.data.read_pairs(path)
        return pairs if named else tuple(as_hard_as(pair, self.preset) for pair in pairs)

    @cached_property
    def foreign(self) -> ForeignRadio:
        """Radio of no site."""
        return ForeignRadio(self.data)

    def outlier(self, modality: str, rng: np.random.Generator) -> NDArray[np.float32] | None:
        """Draw a burst of an emitter of no site as the radio's outlier, in `unknown_share` of the draws."""
        emitters = [name for name in TRAINED if name in self.foreign.windows] if self.config.unknown_share else []
        if modality != "iq" or not emitters or rng.random() >= self.config.unknown_share:
            return None
        emitter, snr_db = emitters[rng.integers(len(emitters))], float(rng.uniform(*self.preset.snr_db))
        return self.foreign.unknown(emitter, snr_db, rng, BlockDraws(rng))

    def unknown_examples(self) -> Iterator[tuple[str, Example]]:
        """Yield the validation examples with an emitter of no site in place of their own, and its name.

        Scene, severity and SNR stay: an unknown sender at a place of a known kind, and nothing else differs.
        """
        emitters = self.foreign.asked
        for row, pair in enumerate(self.pairs):
            if not emitters:
                return
            emitter = emitters[row % len(emitters)]
            rng = np.random.default_rng([PAIR_SEED, row, 1])
            iq = self.foreign.unknown(emitter, pair.snr_db, rng, rng)
            image = corrupt_scene(self.data.scene(pair.scene), pair.severity, rng)
            yield emitter, Example(label=pair.label, sensors={"iq": iq, "image": image})

    def quiet_windows(self, snr_db: float) -> Iterator[Example]:
        """Yield windows without a burst of each site's receivers, with no scene."""
        for quiet in self.foreign.quiet(snr_db):
            yield Example(label=quiet.label, sensors={"iq": quiet.iq, "image": None})

    def _preset_at(self, progress: float) -> Preset:
        return eased(self.preset, progress) if self.config.has_curriculum else self.preset


def as_example(made: PairedExample, pair: Pair) -> Example:
    """Return what the sensors deliver at a site, with how good they are: SNR in dB, and less the severity."""
    return Example(
        label=made.label,
        sensors={"iq": made.iq, "image": made.image},
        quality={"iq": pair.snr_db, "image": -pair.severity},
        source=source_of(pair),
    )


def eased(preset: Preset, progress: float) -> Preset:
    """Return a preset with the radio's SNR on its way from easy down to its own, reached halfway."""
    if progress >= 0.5:
        return preset
    easy, hard = np.array(_EASY_SNR_DB), np.array(preset.snr_db)
    low, high = easy + (hard - easy) * (2 * progress)
    return dataclasses.replace(preset, snr_db=(float(low), float(high)))


def draw_example(data: UavPair7, pair: Pair, rng: np.random.Generator) -> Example:
    """Return a training example of a pair: its scene mirrored, turned and cropped, its window turned in time."""
    made = data.example(pair, BlockDraws(rng), lambda scene: aerial_part(scene, _LEAST_PART, rng))
    return Example(
        label=made.label, sensors={"iq": turned_in_time(made.iq, rng), "image": made.image}, source=source_of(pair)
    )


def source_of(pair: Pair) -> str:
    """Return where a pair comes from, in words."""
    return f"window {pair.window} of {pair.recording}, scene {pair.scene}"


def check_modality(modality: ModalitySpec) -> None:
    """Raise ConfigError unless the recordings of UAVPair-7 deliver a modality."""
    recipe = modality.recipe
    if isinstance(recipe, IqRecipe):
        fits = (modality.name, recipe.window_samples, recipe.sample_rate_hz) == ("iq", WINDOW_SAMPLES, SAMPLE_RATE_HZ)
    else:
        fits = modality.name == "image" and isinstance(recipe, ImageRecipe)
    if not fits:
        raise ConfigError(
            f"modality {modality.name} with {recipe}: UAVPair-7 delivers `image` of kind image, and `iq` of kind iq"
            f" with {WINDOW_SAMPLES} samples at {SAMPLE_RATE_HZ} S/s"
        )
