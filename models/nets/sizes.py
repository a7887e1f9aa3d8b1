"""How wide and deep the branches are: the part of a network that the spec leaves open. Torch-free."""

import msgspec

from models.errors import ConfigError
from models.spec import ModelSpec, VectorRecipe


class BranchSizes(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The layers of one branch, first to last; one entry per layer in both tuples."""

    widths: tuple[int, ...]
    """Output channels of each layer."""
    strides: tuple[int, ...]
    """Samples or pixels that each layer steps; the kernels follow from them. All 1 for a vector."""
    dropout: float = 0.2
    """Share of the feature's inputs that training blanks."""

    def __post_init__(self) -> None:
        if not 1 <= len(self.widths) <= 16 or len(self.widths) != len(self.strides):
            raise ValueError(f"{len(self.widths)} widths and {len(self.strides)} strides: expected 1 to 16 of each")
        if not all(1 <= width <= 2048 for width in self.widths):
            raise ValueError(f"widths {self.widths}: expected 1 to 2048 channels")
        if not all(1 <= stride <= 64 for stride in self.strides):
            raise ValueError(f"strides {self.strides}: expected 1 to 64")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}: expected 0 to below 1")


def check_sizes(spec: ModelSpec, sizes: dict[str, BranchSizes]) -> None:
    """Raise ConfigError unless every modality of `spec` has sizes that it can have, and nothing else has."""
    if set(sizes) != set(spec.modality_names):
        raise ConfigError(
            f"sizes for {sorted(sizes)}, modalities {sorted(spec.modality_names)}: give each modality its sizes"
        )
    for modality in spec.modalities:
        strides = sizes[modality.name].strides
        if isinstance(modality.recipe, VectorRecipe) and set(strides) != {1}:
            raise ConfigError(f"sizes of {modality.name}: strides {strides} over a vector: expected 1 for every layer")
