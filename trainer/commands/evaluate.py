"""`uav-train evaluate`: how well a checkpoint or a bundle answers on labelled examples."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from models.bundle import open_bundle
from models.command_line import print_json
from models.errors import ConfigError, DeviceError

if TYPE_CHECKING:
    from trainer.asking import Model
    from trainer.evaluation import Evaluation


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    model = parser.add_mutually_exclusive_group(required=True)
    model.add_argument("--checkpoint", type=Path, help=".safetensors file that uav-train fit wrote (needs torch)")
    model.add_argument("--bundle", type=Path, help="<name>-<version>.uavb folder")
    parser.add_argument("--data", choices=("uavpair7", "synthetic"), required=True, help="data set")
    parser.add_argument("--root", type=Path, default=Path("../shared/data"), help="uavpair7: folder of the recordings")
    parser.add_argument("--pairs", type=Path, help="uavpair7: pairs CSV (default: the validation pairs of the root)")
    parser.add_argument("--json", action="store_true", help="end with one JSON object")


def run(args: argparse.Namespace) -> int:
    """Evaluate and print a table."""
    from trainer.data.catalogue import open_data_set
    from trainer.data.pairs import UavPair7Data
    from trainer.data.synthetic import SyntheticData
    from trainer.evaluate import evaluate
    from trainer.progress import ProgressBar

    if args.data == "synthetic" and args.pairs is not None:
        raise ConfigError("--pairs goes with --data uavpair7: leave it out")
    model = _open_model(args)
    pairs = None if args.pairs is None else str(args.pairs)
    config = SyntheticData() if args.data == "synthetic" else UavPair7Data(root=str(args.root), pairs=pairs)
    data = open_data_set(config, model.spec.modalities)
    if data.classes != model.spec.classes:
        raise ConfigError(
            f"the model knows {', '.join(model.spec.classes)}; {args.data} holds {', '.join(data.classes)}:"
            " name the data set that it was trained for"
        )
    with ProgressBar() as bar:
        evaluation = evaluate(model, data.validation_examples(), bar.on_evaluation)
    _print_table(evaluation)
    if args.json:
        print_json({"model": str(args.checkpoint or args.bundle), **evaluation.as_json()})
    return 0


def _open_model(args: argparse.Namespace) -> "Model":
    from trainer.asking import BundleModel

    if args.bundle is not None:
        return BundleModel(open_bundle(args.bundle))
    try:
        from models.nets.checkpoint import read_checkpoint
        from trainer.answers import NetworkModel
    except ModuleNotFoundError as error:
        raise DeviceError(f"{error.name} is not installed: pip install 'uav-fusion-edge[train]'") from error
    checkpoint = read_checkpoint(args.checkpoint)
    return NetworkModel(checkpoint.network, checkpoint.header.temperature)


def _print_table(evaluation: "Evaluation") -> None:
    print(f"{evaluation.examples} examples, right answers:")
    print(f"  fused            {100 * evaluation.accuracy:6.1f} %")
    for name, share in evaluation.alone.items():
        print(f"  {name:<8} alone   {100 * share:6.1f} %")
    for name, share in evaluation.without.items():
        print(f"  {name:<8} missing {100 * share:6.1f} %")
    for label, share in evaluation.recall.items():
        print(f"  {label:<16} {100 * share:6.1f} %  (fused, of its own)")
