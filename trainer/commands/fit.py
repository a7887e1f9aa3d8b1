"""`uav-train fit`: a configuration becomes a checkpoint; under `torchrun`, by several processes at once."""

import argparse
import logging
import shlex
from pathlib import Path

from models.command_line import print_json
from models.errors import DeviceError


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("--config", type=Path, required=True, help="YAML file of the run, as launch/train-demo.yaml")
    parser.add_argument("--resume", action="store_true", help="go on where an interrupted run of this file stopped")
    parser.add_argument(
        "--qat", action="store_true", help="go on from the finished checkpoint with branches that compute as in INT8"
    )
    parser.add_argument("--json", action="store_true", help="end with one JSON object")


def run(args: argparse.Namespace) -> int:
    """Train, evaluate, write the checkpoint and the report."""
    try:
        from trainer.config import TrainConfig
        from trainer.data.catalogue import open_data_set
        from trainer.training.device import pick_device
        from trainer.training.loop import Trainer, finish, train
        from trainer.training.qat import qat_trainer
        from trainer.training.ranks import joined_ranks
        from trainer.training.report import write_report
    except ModuleNotFoundError as error:
        raise DeviceError(f"{error.name} is not installed: pip install 'uav-fusion-edge[train]'") from error
    from models.schema import load_yaml
    from trainer.training.progress import ProgressBar

    config = load_yaml(args.config, TrainConfig)
    with joined_ranks(pick_device(config.device).type) as place:
        if not place.is_first:
            logging.getLogger().setLevel(logging.WARNING)
        if args.qat:
            trainer = qat_trainer(config, place)
        else:
            trainer = Trainer(config, open_data_set(config.data, config.modalities), place)
        with ProgressBar(is_shown=place.is_first) as bar:
            train(trainer, bar, resume=args.resume)
            if not place.is_first:
                return 0
            command = shlex.join(["uav-train", "fit", "--config", str(args.config)])
            commands = [command, f"{command} --qat"] if args.qat else [command]
            path, evaluation = finish(trainer, commands, bar)
    report = write_report(trainer.config, evaluation)
    print(f"{path}: " + ", ".join(f"{name} {value}" for name, value in evaluation.metrics().items()))
    print(f"{report}: how it came about")
    if args.json:
        print_json({"checkpoint": str(path), "report": str(report), **evaluation.as_json()})
    return 0
