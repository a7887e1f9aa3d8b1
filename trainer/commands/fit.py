"""`uav-train fit`: a configuration becomes a checkpoint."""

import argparse
import shlex
from pathlib import Path

from models.command_line import print_json
from models.errors import DeviceError


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("--config", type=Path, required=True, help="YAML file of the run, as launch/train-demo.yaml")
    parser.add_argument("--resume", action="store_true", help="go on where an interrupted run of this file stopped")
    parser.add_argument("--json", action="store_true", help="end with one JSON object")


def run(args: argparse.Namespace) -> int:
    """Train, evaluate, write the checkpoint."""
    try:
        from trainer.config import TrainConfig
        from trainer.data.catalogue import open_data_set
        from trainer.loop import fit
    except ModuleNotFoundError as error:
        raise DeviceError(f"{error.name} is not installed: pip install 'uav-fusion-edge[train]'") from error
    from models.schema import load_yaml
    from trainer.progress import ProgressBar

    config = load_yaml(args.config, TrainConfig)
    data = open_data_set(config.data, config.modalities)
    reproduce = shlex.join(["uav-train", "fit", "--config", str(args.config)])
    with ProgressBar() as bar:
        path, evaluation = fit(config, data, reproduce, bar, resume=args.resume)
    print(f"{path}: " + ", ".join(f"{name} {value}" for name, value in evaluation.metrics().items()))
    if args.json:
        print_json({"checkpoint": str(path), **evaluation.as_json()})
    return 0
