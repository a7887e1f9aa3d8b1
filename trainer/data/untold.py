"""Recorded flights as they are, with their truth or without one: for what needs no labels, as calibration does."""

from collections.abc import Iterator, Sequence

import numpy as np

from models.errors import InputError
from models.spec import ModelSpec
from trainer.data.examples import Example
from trainer.data.flights import UNTOLD
from trainer.data.recordings import Cut, RecordingsData, example_of, matching_files, read_flight


class UntoldFlights:
    """Moments of recordings, cut as training cuts them; a truth that the model has no class for counts as untold."""

    def __init__(self, files: Sequence[str], spec: ModelSpec) -> None:
        """Read every recording once.

        Raises:
            RecordingError: a file is missing, or nothing in it is sound.
            ConfigError: its streams do not fit the model.
            InputError: there is not one moment at which every sensor delivered.
        """
        config = RecordingsData(files=tuple(files))
        self._recipes = {modality.name: modality.recipe for modality in spec.modalities}
        self._cuts: dict[int, list[Cut]] = {}
        for path in matching_files(config.files):
            flight = read_flight(path, config, spec.modalities, needs_truth=False)
            known = {number: name for number, name in flight.labels.items() if name in spec.classes}
            for moment in flight.moments:
                name = known.get(moment.class_id)
                label = UNTOLD if name is None else spec.classes.index(name)
                self._cuts.setdefault(label, []).append(Cut(recording=flight.recording, label=label, moment=moment))
        if not self._cuts:
            raise InputError(
                f"{', '.join(files)}: no moment at which every sensor of the model delivered: record"
                f" {' and '.join(spec.modality_names)} together"
            )

    @property
    def labels(self) -> list[int]:
        """Of the moments, each once."""
        return sorted(self._cuts)

    def examples(self, count: int, rng: np.random.Generator) -> Iterator[Example]:
        """Yield moments by chance, of each label up to its share of `count`."""
        share = -(-count // len(self._cuts))
        for label in self.labels:
            cuts = self._cuts[label]
            for n in np.sort(rng.permutation(len(cuts))[:share]):
                yield example_of(cuts[n], self._recipes, None)
