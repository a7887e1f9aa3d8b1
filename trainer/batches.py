"""Random training batches: examples, modality dropout and outliers, each batch from a seed of its own."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.spec import ModelSpec, Recipe
from trainer.data.examples import DataSet, prepare
from trainer.data.outliers import draw_outlier
from trainer.methods.method import Batch

_TRAIN, _PROBE = 0, 1  # purposes of random numbers: each has its own stream


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchMaker:
    """Makes the batches of a run; equal places in the run give equal batches, whoever asks and whenever."""

    data: DataSet
    spec: ModelSpec
    seed: int
    batch: int
    modality_dropout: float
    outlier_share: float

    def training(self, epoch: int, step: int, progress: float) -> Batch:
        """Return a training batch; `progress` is the part of training that is done.

        Raises:
            InputError: as `prepare`.
        """
        rng = np.random.default_rng([self.seed, _TRAIN, epoch, step])
        inputs, labels = self._examples(rng, progress)
        outliers = round(self.outlier_share * self.batch)
        return Batch(
            inputs=inputs,
            labels=labels,
            mask=torch.from_numpy(draw_mask((self.batch, len(self.spec.modalities)), self.modality_dropout, rng)),
            outliers={one.name: _outliers(one.recipe, outliers, rng) for one in self.spec.modalities},
        )

    def probe(self, number: int) -> Batch:
        """Return a batch at the difficulty of the end of training, every modality there, no outliers."""
        inputs, labels = self._examples(np.random.default_rng([self.seed, _PROBE, number]), 1.0)
        return Batch(
            inputs=inputs,
            labels=labels,
            mask=torch.ones(self.batch, len(self.spec.modalities)),
            outliers={one.name: torch.zeros(0, *one.recipe.input_shape) for one in self.spec.modalities},
        )

    def _examples(self, rng: np.random.Generator, progress: float) -> tuple[dict[str, Tensor], Tensor]:
        inputs, labels = prepare([self.data.training_example(rng, progress) for _ in range(self.batch)], self.spec)
        return {name: torch.from_numpy(stack) for name, stack in inputs.items()}, torch.from_numpy(labels)


def draw_mask(shape: tuple[int, int], dropout: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return a mask (batch, modalities) in which a share `dropout` of the rows lacks one random modality."""
    rows, modalities = shape
    mask = np.ones(shape, np.float32)
    hit = rng.random(rows) < dropout
    mask[np.arange(rows)[hit], rng.integers(modalities, size=rows)[hit]] = 0.0
    return mask


def _outliers(recipe: Recipe, count: int, rng: np.random.Generator) -> Tensor:
    stack = np.zeros((count, *recipe.input_shape), np.float32)
    for out in stack:
        out[:] = draw_outlier(recipe, rng)
    return torch.from_numpy(stack)
