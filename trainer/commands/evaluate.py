"""`uav-train evaluate`: how well a checkpoint or a bundle answers on labelled examples."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.bundle import open_bundle
from models.command_line import check_writable, print_json
from models.errors import ConfigError, DeviceError

if TYPE_CHECKING:
    from trainer.data.catalogue import DataConfig
    from trainer.evaluation.asking import Model
    from trainer.evaluation.controls import Controls
    from trainer.evaluation.result import Evaluation

_FLAGS = ("root", "preset", "pairs")  # keys of a data set's configuration that are flags as well


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    model = parser.add_mutually_exclusive_group(required=True)
    model.add_argument("--checkpoint", type=Path, help=".safetensors file that uav-train fit wrote (needs torch)")
    model.add_argument("--bundle", type=Path, help="<name>-<version>.uavb folder")
    parser.add_argument(
        "--data",
        required=True,
        metavar="KIND",
        help="uavpair7, pairproduct9, pairxor3, houston2013, skydet, synthetic; or what a run's configuration holds"
        " under data, such as '{kind: houston2013, validation: official}'",
    )
    parser.add_argument("--root", type=Path, help="folder of the recordings (default: ../shared/data)")
    parser.add_argument("--preset", help="uavpair7, pairproduct9, pairxor3: how hard the examples are (default: mid)")
    parser.add_argument(
        "--pairs", type=Path, help="uavpair7: pairs CSV, as hard as it is written (default: the root's)"
    )
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a page with pictures, which opens offline")
    parser.add_argument("--json", action="store_true", help="end with one JSON object, its keys in docs/evaluation.md")


def run(args: argparse.Namespace) -> int:
    """Evaluate and print a table."""
    _check_page(args.html)
    from trainer.data.catalogue import open_data_set
    from trainer.evaluation.asking import ask
    from trainer.evaluation.controls import ask_controls
    from trainer.evaluation.evaluate import judge
    from trainer.training.progress import ProgressBar

    config = _data_config(args)
    model = _open_model(args)
    data = open_data_set(config, model.spec.modalities)
    if data.classes != model.spec.classes:
        raise ConfigError(
            f"the model knows {', '.join(model.spec.classes)}; {args.data} holds {', '.join(data.classes)}:"
            " name the data set that it was trained for"
        )
    with ProgressBar() as bar:
        asked = ask(model, data.validation_examples(), bar.on_evaluation)
        evaluation = judge(model, asked)
        controls = ask_controls(model, asked, data, bar.on_evaluation)
    _print_table(evaluation, controls)
    name = str(args.checkpoint or args.bundle)
    if args.html is not None:
        from trainer.evaluation.page import write_page

        write_page(args.html, f"{name} on {args.data}", evaluation, controls)
        print(f"page: {args.html}")
    if args.json:
        print_json({"model": name, **evaluation.as_json(), **controls.as_json()})
    return 0


def _data_config(args: argparse.Namespace) -> "DataConfig":
    """Return the data set's configuration, the flags put into it."""
    import msgspec

    from models.schema import parse_yaml
    from trainer.data.catalogue import DataConfig

    text = args.data if args.data.lstrip().startswith("{") else f"{{kind: {args.data}}}"
    config: DataConfig = parse_yaml(text.encode(), DataConfig, "--data")  # type: ignore[arg-type]
    flags: dict[str, Any] = {name: str(getattr(args, name)) for name in _FLAGS if getattr(args, name) is not None}
    unknown = [f"--{name}" for name in flags if name not in config.__struct_fields__]
    if unknown:
        raise ConfigError(f"{', '.join(unknown)}: {args.data} has no such thing: leave it out")
    if {"preset", "pairs"} <= set(flags):
        raise ConfigError("--preset with --pairs: a pairs file is as hard as it is written: leave one of them out")
    try:
        return msgspec.convert({**msgspec.to_builtins(config), **flags}, DataConfig)  # type: ignore[no-any-return]
    except msgspec.ValidationError as error:
        raise ConfigError(f"--data {args.data}: {error}") from error


def _open_model(args: argparse.Namespace) -> "Model":
    from trainer.evaluation.asking import BundleModel

    if args.bundle is not None:
        return BundleModel(open_bundle(args.bundle))
    try:
        from models.nets.checkpoint import read_checkpoint
        from trainer.evaluation.answers import NetworkModel
    except ModuleNotFoundError as error:
        raise DeviceError(f"{error.name} is not installed: pip install 'uav-fusion-edge[train]'") from error
    checkpoint = read_checkpoint(args.checkpoint)
    return NetworkModel(checkpoint.network, checkpoint.header.temperature)


def _check_page(path: Path | None) -> None:
    """Find out before the work whether a page can be drawn and written."""
    check_writable(path)
    if path is not None:
        try:
            import matplotlib as _  # noqa: F401
        except ModuleNotFoundError as error:
            raise DeviceError(f"{error.name} is not installed: pip install 'uav-fusion-edge[train]'") from error


def _print_table(evaluation: "Evaluation", controls: "Controls") -> None:
    print(f"{evaluation.examples} examples, right answers:")
    print(
        f"  fused {100 * evaluation.accuracy:.1f} %, mean over classes {100 * evaluation.average_accuracy:.1f} %,"
        f" kappa {evaluation.kappa:.3f}, macro-F1 {evaluation.macro_f1:.3f}"
    )
    for name, share in evaluation.alone.items():
        print(f"  {f'{name} alone':<24} {100 * share:6.1f} %")
    for name, share in evaluation.without.items():
        print(f"  {f'{name} missing':<24} {100 * share:6.1f} %")
    for name, shares in evaluation.corrupted.items():
        for kind, share in shares.items():
            if kind != "masked":
                print(f"  {f'{name} {kind}, no mask':<24} {100 * share:6.1f} %")
    for label, share in evaluation.recall.items():
        print(f"  {label:<24} {100 * share:6.1f} %  (fused, of its own)")
    for name, follows in evaluation.swapped.items():
        print(f"{name} of another class: the answer follows it in {100 * follows['swapped']:.1f} %")
    for name, rho in evaluation.weight_spearman.items():
        if rho == rho:  # not NaN, as where the weights are all the same
            print(f"weight of {name} by its quality: rank correlation {rho:.2f}")
    fit = evaluation.calibration
    print(
        f"calibration error {fit.ece_before:.3f}, after a temperature {fit.ece_after:.3f} (cross-fitted),"
        f" by the model's own ({fit.stored_temperature:.2f}) {fit.ece_stored:.3f}"
    )
    told = controls.as_json()
    if "unknown" in told:
        print(f"unknown senders told by entropy: AUROC {told['unknown']['auroc']['fused']:.2f}")
    for snr, share in controls.quiet_accuracy.items():
        print(f"radio without a burst, {snr.replace('_db', ' dB')}: {100 * share:.1f} % (chance, or a leak)")
