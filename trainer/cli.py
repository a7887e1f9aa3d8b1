"""`uav-train`: training and evaluation on the desktop. Thin: each command is a module under `trainer/commands/`."""

import sys
from collections.abc import Sequence

from models.command_line import run_command_line

ABOUT = "Train the networks that fly, so that neither modality goes lazy, and say how well they do."
COMMANDS: dict[str, tuple[str, str]] = {
    "fit": ("trainer.commands.fit", "train from a YAML file to a checkpoint"),
    "evaluate": ("trainer.commands.evaluate", "accuracy of a checkpoint or bundle: fused, each alone, each missing"),
    "compare": ("trainer.commands.compare", "methods and fusion forms side by side, in a table and a report"),
    "examples": ("trainer.commands.examples", "write a sample of preprocessed examples, for uav-calibrate"),
    "composite-flight": ("trainer.commands.composite_flight", "make a recorded flight of real radio and real scenes"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand and return its exit code."""
    return run_command_line("uav-train", ABOUT, COMMANDS, argv)


if __name__ == "__main__":
    sys.exit(main())
