"""What a comparison found: means, deviations, ranks and paired tests, as values, Markdown and JSON.

A row of the tables is an entry, or its branches under another fusion form (`<entry>/<form>`), or one modality of the
independently trained entry (`<modality> alone`).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from trainer.compare.plan import CompareConfig, Run, compared_runs, sensitivity_runs, tuning_runs
from trainer.compare.records import Record

_DRAWS = 2000  # of the bootstrap


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """A row on one data set: values by seed, in the order of `seeds`; shares are 0 to 1."""

    seeds: tuple[int, ...]
    measures: Mapping[str, NDArray[np.float64]]
    """By key of the evaluation's JSON, (seeds,): `accuracy`, `accuracy_<m>`, `accuracy_without_<m>`, `ece_after`."""
    is_right: NDArray[np.bool_]
    """(seeds, examples): of the fused answers."""
    failed: int
    """Runs without a result."""

    def mean(self, measure: str = "accuracy") -> float:
        """Return the mean over seeds, NaN where nobody knows."""
        values = self.measures.get(measure, np.empty(0))
        return float(values.mean()) if len(values) else float("nan")

    def deviation(self, measure: str = "accuracy") -> float:
        """Return the standard deviation over seeds, NaN for fewer than two."""
        values = self.measures.get(measure, np.empty(0))
        return float(values.std(ddof=1)) if len(values) > 1 else float("nan")


@dataclass(frozen=True, kw_only=True, slots=True)
class Pairing:
    """Ours less another row on one data set, over the seeds that both have."""

    seeds: int
    difference: float
    p_value: float
    """Of a paired t-test over seeds, two-sided; NaN for fewer than two, or where all differ equally."""
    low: float
    high: float
    """95 % interval of the difference over the validation examples, by bootstrap."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """The whole finding."""

    config: CompareConfig
    modalities: tuple[str, ...]
    rates: Mapping[str, float]
    planned: int
    """Runs of the whole plan."""
    done: int
    cells: Mapping[tuple[str, str], Cell]
    """By (data, row)."""
    pairings: Mapping[tuple[str, str], Pairing]
    """By (data, row)."""
    ranks: Mapping[str, float]
    """By row: mean rank over the data sets that have every row; empty where none has."""
    tuned: Mapping[tuple[str, float], float]
    """By (entry, learning rate): mean accuracy in tuning."""
    untuned: Mapping[tuple[str, str, float], tuple[float, int]]
    """By (data, entry, fraction of the learning rate): mean accuracy, seeds."""
    cpu_seconds: Mapping[str, float]
    """By entry: median of a run."""
    problems: Mapping[str, str]
    """By name of run: why it has no result."""
    programs: int
    """Versions of this program that carried out runs: more than one do not make one table."""

    @property
    def rows(self) -> tuple[str, ...]:
        """Names of rows in the order of the plan."""
        return tuple(dict.fromkeys(row for _, row in self.cells))

    def as_json(self) -> dict[str, Any]:
        """Return the figures as JSON types."""
        return {
            "runs": {"planned": self.planned, "done": self.done},
            "learning_rates": dict(self.rates),
            "data": {
                data: {row: _cell_json(self.cells[data, row]) for row in self.rows if (data, row) in self.cells}
                for data in self.config.data
            },
            "ours": self.config.ours,
            "against_ours": {
                data: {row: _pairing_json(one) for (where, row), one in self.pairings.items() if where == data}
                for data in self.config.data
            },
            "mean_rank": {row: round(rank, 2) for row, rank in self.ranks.items()},
            "cpu_seconds": dict(self.cpu_seconds),
            "problems": dict(self.problems),
            "programs": self.programs,
        }


def summarise(config: CompareConfig, rates: Mapping[str, float], records: Mapping[Run, Record]) -> Summary:
    """Return what the records tell, however many of the plan's there are."""
    plan = {*tuning_runs(config), *compared_runs(config, rates), *sensitivity_runs(config, rates)}
    compared = [(run, records[run]) for run in compared_runs(config, rates) if run in records]
    modalities = _modalities(record for _, record in compared)
    cells = _cells(config, compared, modalities)
    return Summary(
        config=config,
        modalities=modalities,
        rates=rates,
        planned=len(plan),
        done=sum(run in records for run in plan),
        cells=cells,
        pairings=_pairings(config, cells),
        ranks=_mean_ranks(config, cells),
        tuned=_tuned(config, records),
        untuned=_untuned(config, rates, records),
        cpu_seconds=_cpu_seconds(config, [record for _, record in compared], [run for run, _ in compared]),
        problems={run.name: record.problem for run, record in records.items() if record.problem is not None},
        programs=len({record.code for record in records.values()}),
    )


def pair(ours: Cell, other: Cell, rng: np.random.Generator) -> Pairing:
    """Compare two rows seed by seed and example by example; they share at least one seed."""
    shared = [seed for seed in ours.seeds if seed in other.seeds]
    mine, theirs = ([cell.seeds.index(seed) for seed in shared] for cell in (ours, other))
    differences = ours.measures["accuracy"][mine] - other.measures["accuracy"][theirs]
    by_example = ours.is_right[mine].mean(axis=0) - other.is_right[theirs].mean(axis=0)
    drawn = by_example[rng.integers(len(by_example), size=(_DRAWS, len(by_example)))].mean(axis=1)
    low, high = np.quantile(drawn, (0.025, 0.975))
    return Pairing(
        seeds=len(shared),
        difference=float(differences.mean()),
        p_value=_p_value(differences),
        low=float(low),
        high=float(high),
    )


def _p_value(differences: NDArray[np.float64]) -> float:
    if len(differences) < 2 or not differences.std():
        return float("nan")
    return float(stats.ttest_1samp(differences, 0.0).pvalue)


def _modalities(records: Iterable[Record]) -> tuple[str, ...]:
    """Return the names of modalities that any record tells of."""
    names: dict[str, None] = {}
    for record in records:
        found = [key.removeprefix("accuracy_") for key in record.evaluation if key.startswith("accuracy_")]
        names |= dict.fromkeys(name for name in found if not name.startswith("without_"))
    return tuple(names)


def _cells(
    config: CompareConfig, compared: Sequence[tuple[Run, Record]], modalities: Sequence[str]
) -> dict[tuple[str, str], Cell]:
    cells = {}
    for data in config.data:
        for entry in config.entries:
            chosen = [(run.seed, record) for run, record in compared if (run.data, run.entry) == (data, entry)]
            if not chosen:
                continue
            cells[data, entry] = _cell(chosen, None, "accuracy", "fused")
            for form in config.entries[entry].also_fused_by:
                cells[data, f"{entry}/{form}"] = _cell(chosen, form, "accuracy", "fused")
            if entry == config.alone:
                for name in modalities:
                    if any(f"accuracy_{name}" in record.evaluation for _, record in chosen):
                        cells[data, f"{name} alone"] = _cell(chosen, None, f"accuracy_{name}", f"alone_{name}")
    return cells


def _cell(chosen: Sequence[tuple[int, Record]], form: str | None, key: str, case: str) -> Cell:
    """Gather a row's values; `key` is what counts as its accuracy, `case` whose answers it goes by."""
    found = [(seed, record) for seed, record in chosen if record.problem is None]
    told = [record.evaluation if form is None else record.also[form] for _, record in found]
    names = [name for name in (told[0] if told else {}) if name.startswith("accuracy")] if key == "accuracy" else []
    measures = {name: np.array([one[name] for one in told], np.float64) for name in (*names, key)}
    measures["accuracy"] = measures[key]
    if key == "accuracy" and told:
        measures["ece_after"] = np.array([one["calibration"]["ece_after"] for one in told], np.float64)
    right = [np.array(one["rows"]["answers"][case]) == np.array(one["rows"]["labels"]) for one in told]
    return Cell(
        seeds=tuple(seed for seed, _ in found),
        measures=measures,
        is_right=np.array(right, bool),
        failed=len(chosen) - len(found),
    )


def _pairings(config: CompareConfig, cells: Mapping[tuple[str, str], Cell]) -> dict[tuple[str, str], Pairing]:
    rng = np.random.default_rng(0)
    found = {}
    for (data, row), cell in cells.items():
        ours = cells.get((data, config.ours))
        if row != config.ours and ours is not None and set(ours.seeds) & set(cell.seeds):
            found[data, row] = pair(ours, cell, rng)
    return found


def _mean_ranks(config: CompareConfig, cells: Mapping[tuple[str, str], Cell]) -> dict[str, float]:
    """Rank the fused rows, 1 for the best, on each data set that has all of them; equal means share a rank."""
    rows = [row for row in dict.fromkeys(row for _, row in cells) if not row.endswith(" alone")]
    complete = [data for data in config.data if all((data, row) in cells for row in rows)]
    if not complete:
        return {}
    ranks = [stats.rankdata([-np.nan_to_num(cells[data, row].mean()) for row in rows]) for data in complete]
    return dict(zip(rows, np.mean(ranks, axis=0).tolist(), strict=True))


def _tuned(config: CompareConfig, records: Mapping[Run, Record]) -> dict[tuple[str, float], float]:
    found: dict[tuple[str, float], list[float]] = {}
    for run in tuning_runs(config):
        if run in records:
            found.setdefault((run.entry, run.learning_rate), []).append(records[run].accuracy)
    return {key: float(np.mean(values)) for key, values in found.items()}


def _untuned(
    config: CompareConfig, rates: Mapping[str, float], records: Mapping[Run, Record]
) -> dict[tuple[str, str, float], tuple[float, int]]:
    found: dict[tuple[str, str, float], list[float]] = {}
    for run in sensitivity_runs(config, rates):
        if run in records:
            fraction = round(run.learning_rate / rates[run.entry], 4)
            found.setdefault((run.data, run.entry, fraction), []).append(records[run].accuracy)
    return {key: (float(np.mean(values)), len(values)) for key, values in found.items()}


def _cpu_seconds(config: CompareConfig, records: Sequence[Record], runs: Sequence[Run]) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for run, record in zip(runs, records, strict=True):
        if record.cpu_seconds is not None and record.problem is None:
            found.setdefault(run.entry, []).append(record.cpu_seconds)
    return {entry: round(float(np.median(found[entry])), 1) for entry in config.entries if entry in found}


def _cell_json(cell: Cell) -> dict[str, Any]:
    means = {name: round(cell.mean(name), 4) for name, values in cell.measures.items() if len(values)}
    return {**means, "sd": _rounded(cell.deviation()), "seeds": len(cell.seeds), "failed": cell.failed}


def _pairing_json(one: Pairing) -> dict[str, Any]:
    return {
        "difference": round(one.difference, 4),
        "p": _rounded(one.p_value),
        "interval": [round(one.low, 4), round(one.high, 4)],
        "seeds": one.seeds,
    }


def _rounded(value: float) -> float | None:
    return None if np.isnan(value) else round(value, 4)
