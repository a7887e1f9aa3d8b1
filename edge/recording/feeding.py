"""Which of a model's modalities a recording's streams feed, where nobody says so."""

from collections.abc import Sequence

from edge.recording.reader import Recording
from models.errors import ConfigError
from models.spec import ImageRecipe, IqRecipe, ModalitySpec


def fed_modalities(recording: Recording, modalities: Sequence[ModalitySpec]) -> dict[str, str]:
    """Return the modality that each sensor stream feeds.

    A stream feeds the one modality of its kind, or, where there are several of a kind, the one of its name.

    Raises:
        ConfigError: a stream fits no modality or several, or the recording has no sensor stream at all.
    """
    fed: dict[str, str] = {}
    for name, summary in recording.streams.items():
        if not summary.modality:
            continue
        kind = IqRecipe if summary.modality == "iq" else ImageRecipe
        fitting = [modality.name for modality in modalities if isinstance(modality.recipe, kind)]
        chosen = [modality for modality in fitting if modality == name] or fitting
        if len(chosen) != 1:
            raise ConfigError(
                f"{recording.path}: stream {name} ({summary.modality}) fits the modalities {fitting}: expected exactly"
                " one, or one of the stream's name"
            )
        fed[name] = chosen[0]
    if not fed:
        raise ConfigError(f"{recording.path}: no radio or image stream in it: record or import one")
    return fed
