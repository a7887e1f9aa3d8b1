"""`uav-edge regress`: recorded flights flown with a new model, held against an old one."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from edge.commands.precision import add_precision

if TYPE_CHECKING:
    from edge.regression.carrying import Means
    from edge.regression.contest import Contest
    from edge.regression.gathering import Contested
    from models.bundle import Bundle

REGRESSION = 4
"""Exit code where something is worse than it may be, as of `uav-edge bench --baseline`."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("flights", nargs="+", metavar="FLIGHT", help="recordings, or patterns such as 'flights/*.mcap'")
    parser.add_argument("--bundle", type=Path, required=True, metavar="NEW", help="the model that is to be judged")
    parser.add_argument("--against", type=Path, metavar="OLD", help="the model of before, or what --save wrote of it")
    parser.add_argument("--save", type=Path, metavar="OUT.json", help="write the new model's answers, for --against")
    parser.add_argument("--tolerances", type=Path, metavar="FILE.yaml", help="what is let go, and what is ignored")
    add_precision(parser)
    parser.add_argument("--jobs", type=int, metavar="N", help="processes here (default: the cores it may use)")
    parser.add_argument("--cluster", metavar="ADDRESS", help="fly on a Ray cluster instead, `auto` for this machine's")
    parser.add_argument(
        "--keep", type=Path, metavar="DIR", help="keep what is finished there, and do not fly it again next time"
    )
    parser.add_argument("--html", type=Path, metavar="OUT.html", help="write a page with pictures")
    parser.add_argument("--junit", type=Path, metavar="OUT.xml", help="write JUnit XML for a CI server")
    parser.add_argument("--json", action="store_true", help="print everything as JSON on the last line")


def run(args: argparse.Namespace) -> int:
    """Fly what is missing, compare, print; exit with 4 on a regression, with 1 where a flight could not be flown."""
    from edge.operations.progress import progress_bar
    from edge.regression.gathering import fly_contest
    from models.command_line import check_writable, print_json

    contest, means = _contest(args), _means(args)
    check_writable(args.save, args.html, args.junit)
    with progress_bar("flights", contest.steps) as watch:
        found = fly_contest(contest, means, watch)
    _write(args, found, contest.new)
    if args.json:
        print_json(found.as_json())
    if found.verdict is not None and found.verdict.is_regression:
        return REGRESSION
    return 1 if found.problems else 0


def _contest(args: argparse.Namespace) -> "Contest":
    """Return what is asked; raises ConfigError, BundleError and InputError."""
    from edge.regression.contest import Contest, open_old
    from edge.regression.flights import find_flights
    from edge.regression.page import MOST_DETAILED
    from edge.regression.tolerances import read_tolerances
    from models.bundle import open_bundle
    from models.errors import ConfigError

    if args.against is None and args.save is None:
        raise ConfigError("nothing to compare with: name a bundle or saved answers with --against, or --save for later")
    if args.against is None and (args.html or args.junit or args.tolerances):
        raise ConfigError("--html, --junit and --tolerances go with --against: name what to compare with")
    return Contest(
        tolerances=read_tolerances(args.tolerances),
        flights=find_flights(args.flights),
        new=open_bundle(args.bundle),
        old=open_old(args.against) if args.against is not None else None,
        precision=args.precision,
        is_saved=args.save is not None,
        most_detailed=MOST_DETAILED if args.html is not None else 0,
    )


def _means(args: argparse.Namespace) -> "Means":
    """Return what it is done with; raises ConfigError."""
    import os

    from edge.regression.carrying import Means
    from models.errors import ConfigError

    if args.jobs is not None and args.cluster is not None:
        raise ConfigError("--jobs is for this machine, --cluster for others: leave out one")
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    jobs = args.jobs if args.jobs is not None else allowed or 1
    if jobs < 1:
        raise ConfigError(f"--jobs {jobs}: expected 1 or more")
    return Means(jobs=jobs, cluster=args.cluster, keep=args.keep)


def _write(args: argparse.Namespace, found: "Contested", bundle: "Bundle") -> None:
    """Print what was found, and write what was asked for."""
    from edge.regression.junit import junit_xml
    from edge.regression.page import write_verdict_page
    from edge.regression.saved import save
    from edge.regression.text import print_verdict
    from models.disk import write_whole

    if found.verdict is not None:
        print_verdict(found.verdict)
        if args.html is not None:
            write_verdict_page(args.html, found.verdict)
        if args.junit is not None:
            write_whole(args.junit, junit_xml(found.verdict))
    else:
        for problem in found.problems.values():
            print(problem)
    print(f"{found.flown} flown, {found.kept} kept from before")
    if args.save is not None and found.unflown:
        print(f"not saved, as {len(found.unflown)} flights could not be flown: {args.save}")
    elif args.save is not None:
        save(args.save, bundle.manifest.title, bundle.sha256, found.outcomes)
        print(f"saved: {args.save}")
