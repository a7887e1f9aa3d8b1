"""What a model expects and answers: classes, modalities with their preprocessing recipes, and the fusion form."""

import math
from typing import Literal

import msgspec

MAX_CLASSES = 256
MAX_WINDOW_SAMPLES = 1 << 20
MAX_FFT = 4096
MAX_INPUT_VALUES = 1 << 22
MAX_INPUT_PX = 2048
MAX_VECTOR_VALUES = 4096
MAX_HIDDEN = 4096
FUSION = "fusion"
WHOLE = "whole"
"""Roles of graphs that no modality may be named after: the fusion head, and branches and head in one."""


class SpectrogramRecipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a window of I/Q becomes levels over frequency and time."""

    fft_size: int
    """Samples in one transform, and so many frequencies; the newest samples of the window are always in one."""
    hop: int
    """Samples from one transform to the next."""
    taper: Literal["hann", "none"] = "hann"
    """none: sharper lines, and more of a strong one in all others."""

    def __post_init__(self) -> None:
        if not 8 <= self.fft_size <= MAX_FFT:
            raise ValueError(f"fft_size is {self.fft_size}: expected 8 to {MAX_FFT}")
        if not 1 <= self.hop <= self.fft_size:
            raise ValueError(f"hop is {self.hop}: expected 1 to fft_size, so that every sample counts")


class IqRecipe(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    omit_defaults=True,
    tag_field="kind",
    tag="iq",
):
    """How a block of I/Q samples becomes a network input: DC removed, unit RMS.

    (2, window_samples), or levels (1, fft_size, frames) where a spectrogram is made of that.
    """

    window_samples: int
    """Complex samples in one window."""
    sample_rate_hz: int
    """Rate the branch was trained at, complex samples a second."""
    spectrogram: SpectrogramRecipe | None = None
    """What the network sees instead of samples; absent: samples."""

    def __post_init__(self) -> None:
        if not 16 <= self.window_samples <= MAX_WINDOW_SAMPLES:
            raise ValueError(f"window_samples is {self.window_samples}: expected 16 to {MAX_WINDOW_SAMPLES}")
        if self.sample_rate_hz <= 0:
            raise ValueError(f"sample_rate_hz is {self.sample_rate_hz}: expected a positive rate")
        if self.spectrogram is not None and self.spectrogram.fft_size > self.window_samples:
            raise ValueError(
                f"spectrogram.fft_size is {self.spectrogram.fft_size}: expected at most window_samples,"
                f" {self.window_samples}"
            )
        if math.prod(self.input_shape) > MAX_INPUT_VALUES:
            raise ValueError(f"spectrogram of shape {self.input_shape}: expected at most {MAX_INPUT_VALUES} values")

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one example, channels first."""
        if self.spectrogram is None:
            return (2, self.window_samples)
        frames = 1 + (self.window_samples - self.spectrogram.fft_size) // self.spectrogram.hop
        return (1, self.spectrogram.fft_size, frames)


class ImageRecipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="image"):
    """How a BGR frame becomes a network input (3, height_px, width_px): resized, RGB planes, normalised."""

    height_px: int
    width_px: int
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    """Subtracted from RGB in 0..1."""
    std: tuple[float, float, float] = (0.25, 0.25, 0.25)
    """Divides RGB after the mean is subtracted."""

    def __post_init__(self) -> None:
        if not (8 <= self.height_px <= MAX_INPUT_PX and 8 <= self.width_px <= MAX_INPUT_PX):
            raise ValueError(f"{self.height_px} x {self.width_px} px: expected 8 to {MAX_INPUT_PX} each")
        if not all(math.isfinite(value) for value in self.mean):
            raise ValueError(f"mean {self.mean}: expected finite values")
        if not all(0 < value < math.inf for value in self.std):
            raise ValueError(f"std {self.std}: expected positive values")

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one example, channels first."""
        return (3, self.height_px, self.width_px)


class VectorRecipe(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="vector"
):
    """How a row of numbers becomes a network input (values, 1): standardised. No stream carries such rows in flight."""

    values: int
    """Numbers in one row."""
    mean: tuple[float, ...] = (0.0,)
    """Subtracted: one for all values, or one for each."""
    std: tuple[float, ...] = (1.0,)
    """Divides after the mean is subtracted: one for all values, or one for each."""

    def __post_init__(self) -> None:
        if not 1 <= self.values <= MAX_VECTOR_VALUES:
            raise ValueError(f"values is {self.values}: expected 1 to {MAX_VECTOR_VALUES}")
        for name, numbers in (("mean", self.mean), ("std", self.std)):
            if len(numbers) not in (1, self.values):
                raise ValueError(f"{len(numbers)} numbers in {name}: expected 1 or {self.values}")
        if not all(math.isfinite(value) for value in self.mean):
            raise ValueError("mean: expected finite values")
        if not all(0 < value < math.inf for value in self.std):
            raise ValueError("std: expected positive values")

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one example: a channel for each value, at one place."""
        return (self.values, 1)


Recipe = IqRecipe | ImageRecipe | VectorRecipe


class ModalitySpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One sensor's branch: its name, its input, and the size of the feature it hands to the fusion head."""

    name: str
    recipe: Recipe
    feature_size: int
    """Length of the branch's feature vector."""

    def __post_init__(self) -> None:
        if not (self.name.isidentifier() and self.name.isascii()) or self.name in (FUSION, WHOLE):
            raise ValueError(
                f"name {self.name!r}: expected ASCII letters, digits and _, and not {FUSION!r} or {WHOLE!r}"
                " (it names files and graph inputs)"
            )
        if not 1 <= self.feature_size <= 4096:
            raise ValueError(f"feature_size is {self.feature_size}: expected 1 to 4096")


class FusionSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How features and logits of the modalities become one answer."""

    method: Literal["concat", "sum", "gated", "iemf", "entropy", "poe", "mean"] = "iemf"
    """concat, sum, gated: a dense layer over the features side by side, added up, or each behind a gate; iemf: weighted
    by entropy; entropy, poe, mean: the branches' own answers, so weighted, multiplied or averaged, no layer."""
    tau: float = 0.2
    """IEMF: temperature of the entropy weights; small values trust the more certain modality more."""
    floor: float = 0.2
    """IEMF: the least weight of an available modality."""
    hidden: int = 0
    """concat, gated, iemf: units of a hidden layer between features and classes, without which no class can be learned
    that only a combination makes; 0: none."""

    def __post_init__(self) -> None:
        if not 0 < self.tau < math.inf:
            raise ValueError(f"tau is {self.tau}: expected a positive temperature")
        if not 0 <= self.floor < 0.5:
            raise ValueError(f"floor is {self.floor}: expected 0 to below 0.5")
        if not 0 <= self.hidden <= MAX_HIDDEN:
            raise ValueError(f"hidden is {self.hidden}: expected 0 to {MAX_HIDDEN} units")
        if self.hidden and self.method not in ("concat", "gated", "iemf"):
            raise ValueError(f"hidden is {self.hidden}: {self.method} has no dense layer to put it before")


class ModelSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole model: class labels in index order, at least two modalities, one fusion head."""

    classes: tuple[str, ...]
    modalities: tuple[ModalitySpec, ...]
    """Their order is the order of masks, weights and entropies everywhere."""
    fusion: FusionSpec = FusionSpec()

    def __post_init__(self) -> None:
        if not 2 <= len(self.classes) <= MAX_CLASSES or len(set(self.classes)) != len(self.classes):
            raise ValueError(f"{len(self.classes)} classes: expected 2 to {MAX_CLASSES} different labels")
        names = [modality.name for modality in self.modalities]
        if not 2 <= len(names) <= 16 or len(set(names)) != len(names):
            raise ValueError(f"modalities {names}: expected 2 to 16 different names")
        if self.fusion.floor * len(names) >= 1:
            raise ValueError(f"fusion.floor {self.fusion.floor} times {len(names)} modalities: expected less than 1")

    @property
    def modality_names(self) -> tuple[str, ...]:
        """Names in mask order."""
        return tuple(modality.name for modality in self.modalities)

    def modality(self, name: str) -> ModalitySpec:
        """Return one modality by name; KeyError where there is none."""
        for modality in self.modalities:
            if modality.name == name:
                return modality
        raise KeyError(name)
