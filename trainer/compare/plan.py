"""What a comparison is: which methods, on which data, with which seeds and learning rates, and the runs that follow."""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from models.errors import ConfigError
from models.schema import load_yaml
from models.spec import FusionSpec
from trainer.config import TrainConfig
from trainer.data.catalogue import DataConfig
from trainer.methods.catalogue import MethodConfig

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,59}")


FormWithoutWeights = Literal["poe", "mean", "entropy"]


class Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One way to train and fuse."""

    method: MethodConfig
    fusion: FusionSpec
    modality_dropout: float | None = None
    """Instead of the base's."""
    also_fused_by: tuple[FormWithoutWeights, ...] = ()
    """Fusion forms without weights, judged on the same trained branches: rows that cost no training."""


class Tuning(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where every entry's learning rate is picked: the one with the best mean accuracy."""

    data: tuple[str, ...]
    seeds: tuple[int, ...]
    """Other ones than those of the comparison."""


class Sensitivity(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much an entry suffers from a learning rate that nobody tuned."""

    fractions: tuple[float, ...]
    """Of the picked learning rate."""
    data: tuple[str, ...]


class CompareConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A run of `uav-train compare`."""

    description: str
    out: str
    """Folder for runs, table and report."""
    base: str
    """YAML file of `uav-train fit`: everything that all runs share."""
    data: dict[str, DataConfig]
    """By the name that the table shows."""
    entries: dict[str, Entry]
    learning_rates: tuple[float, ...]
    tuning: Tuning
    seeds: tuple[int, ...]
    sensitivity: Sensitivity | None = None
    ours: str
    """The entry that all others are compared with, seed by seed."""
    alone: str
    """The entry whose branches, trained independently, show what each modality reaches by itself."""

    def __post_init__(self) -> None:
        for name in (*self.data, *self.entries):
            if not _NAME.fullmatch(name):
                raise ValueError(f"name {name!r}: expected letters, digits and _.+- (it becomes a folder)")
        for field in ("ours", "alone"):
            if getattr(self, field) not in self.entries:
                raise ValueError(f"{field} is {getattr(self, field)!r}: expected one of {', '.join(self.entries)}")
        asked = (*self.tuning.data, *(self.sensitivity.data if self.sensitivity else ()))
        unknown = [name for name in asked if name not in self.data]
        if unknown:
            raise ValueError(f"{', '.join(unknown)}: not among data ({', '.join(self.data)})")
        if not (self.data and self.learning_rates and self.seeds and self.tuning.data and self.tuning.seeds):
            raise ValueError("data, learning_rates, seeds, tuning.data and tuning.seeds: expected at least one of each")
        shared = set(self.seeds) & set(self.tuning.seeds)
        if shared:
            raise ValueError(f"seed {min(shared)} is in seeds and tuning.seeds: tuning on it would flatter the result")
        for field in ("seeds", "learning_rates"):
            if len(set(getattr(self, field))) < len(getattr(self, field)):
                raise ValueError(f"{field}: one is there twice")

    @property
    def folder(self) -> Path:
        """Where the comparison writes."""
        return Path(self.out)


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """One training of a comparison."""

    data: str
    entry: str
    learning_rate: float
    seed: int

    @property
    def name(self) -> str:
        """Folder of the run below the comparison's."""
        return f"{self.data}/{self.entry}/lr{self.learning_rate:g}/seed{self.seed}"


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker needs to carry out a run."""

    name: str
    config: TrainConfig
    also_fused_by: tuple[FormWithoutWeights, ...]

    @property
    def fingerprint(self) -> str:
        """Hash of all that decides the result."""
        deciding = msgspec.structs.replace(self.config, out="", description="")
        return hashlib.sha256(msgspec.json.encode((deciding, self.also_fused_by))).hexdigest()[:16]


def read_plan(path: Path) -> tuple[CompareConfig, TrainConfig]:
    """Read a comparison and its base.

    Raises:
        ConfigError: either file does not fit, or a run's numbers do not.
    """
    config = load_yaml(path, CompareConfig)
    base = load_yaml(Path(config.base), TrainConfig)
    if base.early_stop is not None:
        raise ConfigError(f"{config.base}: early_stop chooses among epochs by validation: a comparison does without")
    for rate in config.learning_rates:
        every = dict.fromkeys(config.entries, rate)
        for run in (*tuning_runs(config), *compared_runs(config, every), *sensitivity_runs(config, every)):
            task_of(config, base, run)
    return config, base


def task_of(config: CompareConfig, base: TrainConfig, run: Run) -> Task:
    """Return what a worker needs for a run.

    Raises:
        ConfigError: a learning rate or a seed is out of range.
    """
    entry = config.entries[run.entry]
    dropout = base.modality_dropout if entry.modality_dropout is None else entry.modality_dropout
    try:
        varied = msgspec.structs.replace(
            base,
            out=str(config.folder / run.name),
            description=f"{config.description}: {run.name}",
            data=config.data[run.data],
            fusion=entry.fusion,
            method=entry.method,
            modality_dropout=dropout,
            learning_rate=run.learning_rate,
            seed=run.seed,
        )
    except ValueError as error:
        raise ConfigError(f"{run.name}: {error}") from error
    return Task(name=run.name, config=varied, also_fused_by=entry.also_fused_by)


def tuning_runs(config: CompareConfig) -> Iterator[Run]:
    """Yield the runs that pick learning rates; none where there is nothing to pick from."""
    if len(config.learning_rates) == 1:
        return
    for seed in config.tuning.seeds:
        for data in config.tuning.data:
            for entry in config.entries:
                for rate in config.learning_rates:
                    yield Run(data=data, entry=entry, learning_rate=rate, seed=seed)


def picked_rates(config: CompareConfig, accuracies: Mapping[str, float]) -> dict[str, float]:
    """Return each entry's learning rate of the best mean accuracy over the tuning runs, the lower one of equals.

    Args:
        config: the comparison.
        accuracies: by name of run; a run that failed counts as 0.
    """
    runs = list(tuning_runs(config))

    def mean(entry: str, rate: float) -> float:
        chosen = [one for one in runs if one.entry == entry and one.learning_rate == rate]
        return sum(accuracies.get(one.name, 0.0) for one in chosen) / max(len(chosen), 1)

    rates = sorted(config.learning_rates)
    return {entry: max(rates, key=lambda rate: (mean(entry, rate), -rate)) for entry in config.entries}


def compared_runs(config: CompareConfig, rates: Mapping[str, float]) -> Iterator[Run]:
    """Yield the runs of the table, all entries with one seed before the next seed: a part of it is already a table."""
    for seed in config.seeds:
        for data in config.data:
            for entry in config.entries:
                yield Run(data=data, entry=entry, learning_rate=rates[entry], seed=seed)


def sensitivity_runs(config: CompareConfig, rates: Mapping[str, float]) -> Iterator[Run]:
    """Yield the runs at fractions of the picked learning rates."""
    if config.sensitivity is None:
        return
    for seed in config.seeds:
        for data in config.sensitivity.data:
            for fraction in config.sensitivity.fractions:
                for entry in config.entries:
                    yield Run(data=data, entry=entry, learning_rate=fraction * rates[entry], seed=seed)


def distinct(runs: Iterable[Run]) -> list[Run]:
    """Return runs in order, each once."""
    return list(dict.fromkeys(runs))
