"""Arguments of exact replay."""

import argparse

RECORDED = "recorded"


def add_exact(parser: argparse.ArgumentParser) -> None:
    """Add what is only said of exact replay."""
    parser.add_argument(
        "--engine-cost",
        default=RECORDED,
        metavar="MS",
        help="exact: virtual milliseconds that an inference takes, such as 3.5 or iq=0.5,image=20; by default what was"
        " inferred in flight is inferred again, when it was",
    )
    parser.add_argument(
        "--threads",
        type=int,
        metavar="N",
        help="exact: how many infer, 1 by default, one for each modality at most; the results are the same",
    )


def check_exact(args: argparse.Namespace) -> None:
    """Raise ConfigError where arguments are of exact replay and it is not, or make no sense."""
    from models.errors import ConfigError

    if not args.exact and (args.threads is not None or args.engine_cost != RECORDED):
        raise ConfigError("--engine-cost and --threads are of exact replay: add --exact, or leave them out")
    if args.threads is not None and args.threads < 1:
        raise ConfigError(f"--threads is {args.threads}: expected at least 1")
