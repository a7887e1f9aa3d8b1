"""The synthetic sites as a data set: no files, no licence to mind, as many examples as wanted."""

from collections.abc import Iterator

import msgspec
import numpy as np

from edge.sources.synthetic import SITE_LABELS, SiteGenerator
from models.errors import ConfigError
from models.spec import IqRecipe, ModalitySpec
from trainer.data.examples import Example

VALIDATION_SEED = 7_919


class SyntheticData(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="synthetic"
):
    """The generator of the demo flight."""

    validation_examples: int = 2000
    """How many examples an evaluation draws."""

    def __post_init__(self) -> None:
        if not 1 <= self.validation_examples <= 1_000_000:
            raise ValueError(f"validation_examples is {self.validation_examples}: expected 1 to 1000000")


class Synthetic:
    """Independent looks at random sites; the validation ones come from a seed of their own."""

    classes = SITE_LABELS
    licence = "Apache-2.0"

    def __init__(self, config: SyntheticData, modalities: tuple[ModalitySpec, ...]) -> None:
        """Make the generator deliver windows as the I/Q modality wants them.

        Raises:
            ConfigError: a modality is neither `iq` nor `image`.
        """
        self.config = config
        recipes = {modality.name: modality.recipe for modality in modalities}
        unknown = sorted(set(recipes) - {"iq", "image"})
        iq = recipes.get("iq")
        if unknown or not isinstance(iq, IqRecipe):
            raise ConfigError(f"modalities {sorted(recipes)}: the synthetic sites deliver iq and image")
        self.generator = SiteGenerator(chunk_samples=iq.window_samples, sample_rate_hz=iq.sample_rate_hz)

    def training_example(self, rng: np.random.Generator, progress: float) -> Example:
        """Draw a look at a random site; there is no curriculum."""
        label = int(rng.integers(len(SITE_LABELS)))
        return self.look(label, rng)

    def validation_examples(self) -> Iterator[Example]:
        """Yield looks at each class in turn."""
        for n in range(self.config.validation_examples):
            yield self.look(n % len(SITE_LABELS), np.random.default_rng([VALIDATION_SEED, n]))

    def look(self, label: int, rng: np.random.Generator) -> Example:
        """Return one window and one frame of a site."""
        return Example(
            label=label, sensors={"iq": self.generator.radio(label, rng), "image": self.generator.scene(label, rng)}
        )
