"""`uav-edge recording`: what can be done with a recording besides flying it."""

import argparse
import importlib

from models.command_line import EXIT_CODES

COMMANDS: dict[str, tuple[str, str]] = {
    "info": ("edge.commands.info", "what a recording holds, and what of it is damaged"),
    "check": ("edge.commands.recording_check", "whether every byte is as it was written: exit code 0 sound, 1 damaged"),
    "repair": ("edge.commands.recording_repair", "all that can be read, in a new file with an index"),
    "cut": ("edge.commands.recording_cut", "a part of a recording, by time and topic"),
    "merge": ("edge.commands.recording_merge", "several recordings in one, such as the parts of a flight"),
    "export": ("edge.commands.recording_export", "SigMF, images or video, and tables, for other programs"),
}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the commands with their arguments."""
    choices = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, (path, text) in COMMANDS.items():
        subparser = choices.add_parser(name, help=text, description=text, epilog=EXIT_CODES)
        module = importlib.import_module(path)
        module.configure(subparser)
        subparser.set_defaults(run_recording_command=module.run)


def run(args: argparse.Namespace) -> int:
    """Run the command that was chosen."""
    return int(args.run_recording_command(args))
