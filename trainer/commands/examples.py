"""`uav-train examples`: a sample of a data set, or of recorded flights, for calibration."""

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from models.command_line import check_writable, print_json
from models.errors import ConfigError

if TYPE_CHECKING:
    from models.spec import ModelSpec
    from trainer.data.examples import Example
    from trainer.sample import Wish

MOST_EXAMPLES = 100_000
MOST_GAIN_DB = 60.0


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--config", type=Path, metavar="TRAIN.yaml", help="a training run, for its data set")
    source.add_argument(
        "--recording", nargs="+", metavar="FLIGHT.mcap", help="recorded flights, with or without a truth; with --bundle"
    )
    parser.add_argument("--bundle", type=Path, metavar="DIR.uavb", help="the model that --recording is for")
    parser.add_argument(
        "--part", choices=("training", "validation"), help="of the data set of --config (default training)"
    )
    parser.add_argument("--count", type=int, default=512, metavar="N", help="examples in all (default 512)")
    parser.add_argument(
        "--gains-db",
        type=float,
        nargs="+",
        default=[0.0],
        metavar="DB",
        help="levels of radio and light that the examples take in turns, against the recordings' own (default 0)",
    )
    parser.add_argument("--seed", type=int, default=0, help="another seed, another sample")
    parser.add_argument("--out", type=Path, required=True, metavar="OUT.npz", help="the file to write")
    parser.add_argument("--json", action="store_true", help="end with one JSON object")


def run(args: argparse.Namespace) -> int:
    """Draw, preprocess and write the sample, and say what is in it."""
    import numpy as np
    from rich.console import Console
    from rich.progress import Progress

    from trainer.sample import Wish, draw_sample, write_sample

    _check(args)
    check_writable(args.out)
    wish = Wish(count=args.count, gains_db=tuple(args.gains_db), seed=args.seed)
    examples, labels, spec, note = _flights(args, wish) if args.recording else _data_set(args, wish)
    with Progress(console=Console(stderr=True), disable=not sys.stderr.isatty(), transient=True) as progress:
        task = progress.add_task("examples", total=None if args.part == "validation" else args.count)
        sample = draw_sample(examples, labels, spec, wish, lambda done: progress.update(task, completed=done))
    gains = " ".join(f"{gain_db:g}" for gain_db in args.gains_db)
    note = f"{note}, seed {args.seed}, gains of {gains} dB"
    write_sample(args.out, sample, spec, note)
    names = {label: spec.classes[label] if label >= 0 else "unknown" for label in labels}
    counts = {name: int(np.sum(sample.labels == label)) for label, name in names.items()}
    print(f"{args.out}: {len(sample.labels)} examples, " + ", ".join(f"{n} {name}" for name, n in counts.items()))
    if len(sample.labels) < args.count:
        print(f"fewer than the {args.count} asked for: there are not as many of each class")
    if args.json:
        print_json({"path": str(args.out), "examples": len(sample.labels), "classes": counts, "note": note})
    return 0


def _check(args: argparse.Namespace) -> None:
    if (args.bundle is None) == (args.recording is not None):
        raise ConfigError("--bundle and --recording go together: name the model that the flights are for")
    if args.part is not None and args.recording is not None:
        raise ConfigError("--part goes with --config: leave it out")
    if not 1 <= args.count <= MOST_EXAMPLES:
        raise ConfigError(f"--count {args.count}: expected 1 to {MOST_EXAMPLES}")
    if not 0 <= args.seed < 2**31:
        raise ConfigError(f"--seed {args.seed}: expected 0 to 2147483647")
    for gain_db in args.gains_db:
        if not abs(gain_db) <= MOST_GAIN_DB:
            raise ConfigError(f"--gains-db {gain_db:g}: expected -{MOST_GAIN_DB:g} to {MOST_GAIN_DB:g}")


def _data_set(args: argparse.Namespace, wish: "Wish") -> "tuple[Iterable[Example], list[int], ModelSpec, str]":
    """Return examples of a configuration's data set, their labels, the model they are for, and whence they come."""
    import itertools

    import numpy as np

    from models.schema import load_yaml
    from models.spec import ModelSpec
    from trainer.config import TrainConfig
    from trainer.data.catalogue import open_data_set
    from trainer.sample import first_of_each

    config = load_yaml(args.config, TrainConfig)
    data = open_data_set(config.data, config.modalities)
    part = args.part or "training"
    rng = np.random.default_rng([wish.seed, 0])
    spec = ModelSpec(classes=data.classes, modalities=config.modalities, fusion=config.fusion)
    labels = list(range(len(spec.classes)))
    drawn = first_of_each((data.training_example(rng, 1.0) for _ in itertools.count()), labels, wish.count)
    examples = data.validation_examples() if part == "validation" else drawn
    return examples, labels, spec, f"{part} examples of {args.config}"


def _flights(args: argparse.Namespace, wish: "Wish") -> "tuple[Iterable[Example], list[int], ModelSpec, str]":
    """Return examples of recorded flights, likewise."""
    import numpy as np

    from models.bundle import open_bundle
    from trainer.data.untold import UntoldFlights

    spec = open_bundle(args.bundle).spec
    flights = UntoldFlights(args.recording, spec)
    examples = flights.examples(wish.count, np.random.default_rng([wish.seed, 0]))
    return examples, flights.labels, spec, f"recordings {' '.join(args.recording)}"
