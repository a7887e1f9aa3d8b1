"""Random training batches: examples, modality dropout and outliers, every piece from a seed of its own, so that several
processes can each make their share of one batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.errors import InputError
from models.preprocess import preprocess
from models.spec import ModalitySpec, ModelSpec
from trainer.data.examples import DataSet, Example, HasOutliers, prepare
from trainer.data.outliers import draw_outlier
from trainer.methods.method import Batch
from trainer.training.ranks import ALONE, Place

_EXAMPLE, _PROBE, _MASK, _OUTLIER = range(4)  # purposes of random numbers: each has its own stream


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchMaker:
    """Makes the batches of a run; equal places in the run give equal batches, whoever asks and whenever."""

    data: DataSet
    spec: ModelSpec
    seed: int
    batch: int
    """Examples in a batch, over all processes."""
    modality_dropout: float
    outlier_share: float
    place: Place = ALONE
    """Which part of each training batch is made."""

    def training(self, epoch: int, step: int, progress: float) -> Batch:
        """Return this process's share of a training batch; `progress` is the part of training that is done.

        Raises:
            InputError: as `prepare`, or an example lacks a sensor; the message names the batch.
        """
        share = self.place.share_of(self.batch)
        rows = slice(self.place.rank * share, (self.place.rank + 1) * share)
        mask = draw_mask((self.batch, len(self.spec.modalities)), self.modality_dropout, self._rng(_MASK, epoch, step))
        examples = [
            self.data.training_example(self._rng(_EXAMPLE, epoch, step, row), progress)
            for row in range(rows.start, rows.stop)
        ]
        inputs, labels = self._tensors(examples, f"epoch {epoch}, batch {step}")
        return Batch(
            inputs=inputs,
            labels=labels,
            mask=torch.from_numpy(mask[rows]),
            outliers={one.name: self._outliers(n, one, epoch, step) for n, one in enumerate(self.spec.modalities)},
        )

    def probe(self, number: int) -> Batch:
        """Return a batch at the difficulty of the end of training, every modality there, no outliers.

        It is whole in every process.
        """
        examples = [self.data.training_example(self._rng(_PROBE, number, row), 1.0) for row in range(self.batch)]
        inputs, labels = self._tensors(examples, f"probe {number}")
        return Batch(
            inputs=inputs,
            labels=labels,
            mask=torch.ones(self.batch, len(self.spec.modalities)),
            outliers={one.name: torch.zeros(0, *one.recipe.input_shape) for one in self.spec.modalities},
        )

    def _rng(self, *place: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, *place])

    def _tensors(self, examples: Sequence[Example], where: str) -> tuple[dict[str, Tensor], Tensor]:
        for example in examples:
            absent = [name for name in self.spec.modality_names if example.sensors.get(name, ()) is None]
            if absent:
                raise InputError(
                    f"{where}: training example of {self.spec.classes[example.label]} without {', '.join(absent)}:"
                    " expected all modalities; leave it out, modality_dropout teaches to do without"
                )
        try:
            inputs, labels = prepare(examples, self.spec)
        except InputError as error:
            raise InputError(f"{where}: {error}") from error
        return {name: torch.from_numpy(stack) for name, stack in inputs.items()}, torch.from_numpy(labels)

    def _outliers(self, place: int, modality: ModalitySpec, epoch: int, step: int) -> Tensor:
        """Return outliers of a modality: the data set's own where it has any, else dead sensors."""
        share = round(self.outlier_share * self.batch / self.place.ranks)
        own = self.data if isinstance(self.data, HasOutliers) else None
        stack = np.zeros((share, *modality.recipe.input_shape), np.float32)
        for row, out in enumerate(stack, start=self.place.rank * share):
            rng = self._rng(_OUTLIER, epoch, step, place, row)
            drawn = None if own is None else own.outlier(modality.name, rng)
            if drawn is None:
                out[:] = draw_outlier(modality.recipe, rng)
            else:
                preprocess(drawn, modality.recipe, out)
        return torch.from_numpy(stack)


def draw_mask(shape: tuple[int, int], dropout: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return a mask (batch, modalities) in which a share `dropout` of the rows lacks one random modality."""
    rows, modalities = shape
    mask = np.ones(shape, np.float32)
    hit = rng.random(rows) < dropout
    mask[np.arange(rows)[hit], rng.integers(modalities, size=rows)[hit]] = 0.0
    return mask
