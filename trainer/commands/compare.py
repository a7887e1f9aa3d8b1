"""`uav-train compare`: methods and fusion forms side by side, on the same data, seeds and budget."""

import argparse
import sys
from pathlib import Path


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("--config", type=Path, required=True, help="YAML file, as launch/compare-quick.yaml")
    parser.add_argument("--workers", type=int, help="processes of this machine (default: its cores)")
    parser.add_argument("--cluster", metavar="ADDRESS", help="run on a Ray cluster instead, `auto` for this machine's")
    parser.add_argument("--no-runs", action="store_true", help="run nothing: table and report of what is there")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables as Markdown, too")
    parser.add_argument("--json", action="store_true", help="end with one JSON object")


def run(args: argparse.Namespace) -> int:
    """Carry out what is missing, then print the table and write the report."""
    import os

    from models.command_line import check_writable, print_json
    from models.errors import ConfigError
    from trainer.compare.comparison import Comparison
    from trainer.compare.plan import read_plan
    from trainer.compare.report import write_report
    from trainer.compare.tables import summarise
    from trainer.compare.text import markdown

    workers = args.workers if args.workers is not None else os.cpu_count() or 1
    if workers < 1:
        raise ConfigError(f"--workers {workers}: expected 1 or more")
    check_writable(args.markdown)
    comparison = Comparison(*read_plan(args.config))
    if not args.no_runs:
        from trainer.compare.progress import RunsBar

        with RunsBar() as bar:
            comparison.carry_out(bar, workers=workers, cluster=args.cluster)
    summary = summarise(comparison.config, comparison.rates(), comparison.collected())
    text = markdown(summary, f"uav-train compare --config {args.config}")
    sys.stdout.write(text)
    if args.markdown is not None:
        args.markdown.write_text(text)
    report = comparison.config.folder / "report.html"
    write_report(report, summary)
    print(f"report: {report}")
    if args.json:
        print_json({"report": str(report), **summary.as_json()})
    return 0
