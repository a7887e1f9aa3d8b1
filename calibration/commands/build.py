"""`uav-calibrate build`: plans of a bundle's graphs for TensorRT, built on the device and kept in a cache."""

import argparse
import logging
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.command_line import print_json
from models.errors import ConfigError, DeviceError

if TYPE_CHECKING:
    from calibration.plans.building import Explanation, Machine, Outcome
    from edge.backends.plan_key import DeviceFacts, WantedPlan
    from edge.backends.plans import PlanCache, PlanConfig

log = logging.getLogger(__name__)

PRECISIONS = ("auto", "fp32", "fp16", "mixed", "int8")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("--bundle", type=Path, required=True, help="bundle with the graphs")
    parser.add_argument("--plans", type=Path, required=True, help="folder of plans, outside of the bundle")
    parser.add_argument(
        "--options", type=Path, metavar="YAML", help="what the builder is asked for, see launch/plan.yaml"
    )
    parser.add_argument(
        "--precision", choices=PRECISIONS, default="auto", help="auto: what is approved for TensorRT (default: auto)"
    )
    parser.add_argument("--role", nargs="+", default=[], help="modalities, fusion, whole (default: all that fly)")
    parser.add_argument(
        "--compute-capability",
        metavar="X.Y",
        help="kind of GPU to build for without one at hand, which tensorrt_rtx can (default: the GPU of this machine)",
    )
    parser.add_argument(
        "--explain", action="store_true", help="build nothing: say which plans there are, and if they fit"
    )
    parser.add_argument("--json", action="store_true", help="end with one JSON object")


def run(args: argparse.Namespace) -> int:
    """Build what is missing, or explain; exit 1 when --explain finds that a plan is missing."""
    from edge.backends.plan_key import wanted_plans
    from edge.backends.plans import PlanCache, check_folder, read_options
    from models.bundle import open_bundle

    bundle = open_bundle(args.bundle)
    if args.plans.resolve().is_relative_to(bundle.path.resolve()):
        raise ConfigError(f"--plans {args.plans}: expected a folder outside of the bundle, which may hold nothing else")
    config = read_options(args.options)
    check_folder(args.plans)
    machine = _machine(args.compute_capability)
    wanted = wanted_plans(bundle, args.precision, machine.platform, config.builder, tuple(args.role))
    flying = (wanted_plans(bundle, choice, machine.platform, config.builder) for choice in {args.precision, "auto"})
    needed = {one.key.name for some in (wanted, *flying) for one in some}
    cache = PlanCache(args.plans, config.cache, _command(args), needed)
    if args.explain:
        return _explain(wanted, cache, args)
    return _build(wanted, machine, config, cache, args)


def _command(args: argparse.Namespace) -> str:
    """Return what to type to build what this command line asks for."""
    words = ["uav-calibrate", "build", "--bundle", str(args.bundle), "--plans", str(args.plans)]
    words += ["--options", str(args.options)] if args.options is not None else []
    words += ["--precision", args.precision] if args.precision != "auto" else []
    words += ["--role", *args.role] if args.role else []
    words += ["--compute-capability", args.compute_capability] if args.compute_capability else []
    return shlex.join(words)


def _machine(compute_capability: str | None) -> "Machine":
    """Return who builds, and for which GPU."""
    from calibration.plans.building import Machine
    from calibration.plans.engine import kind_of_gpu, load_builder
    from edge.backends.device import platform_of
    from edge.backends.plan_key import check_supported, target_facts

    trt = load_builder()
    check_supported(trt.__name__, trt.__version__)
    if compute_capability:
        kind_of_gpu(trt, compute_capability)  # before a key is made of it, with which nothing can be built
        facts = target_facts(compute_capability)
    else:
        facts = _facts_of_this_gpu()
    return Machine(trt=trt, platform=platform_of(trt, facts), compute_capability=compute_capability)


def _facts_of_this_gpu() -> "DeviceFacts":
    """Return what is to be known of the GPU; DeviceError names the way to build without one, too."""
    from edge.backends.device import load_driver, read_device

    try:
        return read_device(load_driver())
    except DeviceError as error:
        raise DeviceError(
            f"{error}, or name a --compute-capability for tensorrt_rtx, which builds without a GPU"
        ) from error


def _build(
    wanted: "list[WantedPlan]", machine: "Machine", config: "PlanConfig", cache: "PlanCache", args: argparse.Namespace
) -> int:
    from calibration.bar import Bar
    from calibration.plans.building import build_one
    from calibration.plans.progress import Progress

    if config.builder.timing_cache and not machine.has_timing_cache:
        log.info("%s times no kernels when it builds: no timing cache is kept", machine.platform.provider)
    outcomes = []
    for one in wanted:
        with Bar(one.title) as bar:
            progress = Progress(bar.show_share, _teller(one.title, bar.is_shown))
            outcome = build_one(one, machine, config, cache, progress)
        _print_outcome(outcome)
        outcomes.append(outcome)
    if args.json:
        print_json({**_head(machine, cache), "plans": [_as_json(one) for one in outcomes]})
    return 0


def _teller(title: str, is_shown: bool) -> Any:
    """Return what phases are told to: the log, unless a bar is looked at."""
    return (lambda name: None) if is_shown else (lambda name: log.info("%s: %s", title, name))


def _print_outcome(one: "Outcome") -> None:
    for line in one.reasons:
        print(f"{one.wanted.title}: {line}")
    if one.state == "found":
        print(f"{one.wanted.title}: found: {one.file} ({one.size_bytes:_} bytes)")
        return
    print(f"{one.wanted.title}: built in {one.seconds:.1f} s: {one.file} ({one.size_bytes:_} bytes), {one.summary}")
    print(f"{one.wanted.title}: report: {one.report}")


def _explain(wanted: "list[WantedPlan]", cache: "PlanCache", args: argparse.Namespace) -> int:
    from calibration.plans.building import explain_wanted

    explanations = [explain_wanted(one, cache) for one in wanted]
    for one in explanations:
        print(f"{one.wanted.title}: {'there is a plan' if one.fits else 'no plan'}")
        for line in one.lines:
            print(f"  {line}")
    if args.json:
        print_json({"folder": str(cache.folder), "graphs": [_explained(one) for one in explanations]})
    return 0 if all(one.fits for one in explanations) else 1


def _explained(one: "Explanation") -> dict[str, Any]:
    return {"role": one.wanted.role, "precision": one.wanted.precision, "fits": one.fits, "lines": list(one.lines)}


def _head(machine: "Machine", cache: "PlanCache") -> dict[str, Any]:
    return {"folder": str(cache.folder), "builder": machine.name}


def _as_json(one: "Outcome") -> dict[str, Any]:
    return {
        "role": one.wanted.role,
        "precision": one.wanted.precision,
        "state": one.state,
        "file": str(one.file),
        "size_bytes": one.size_bytes,
        "seconds": round(one.seconds, 3),
        "reasons": list(one.reasons),
        "int8": one.summary,
        "report": None if one.report is None else str(one.report),
    }
