"""`uav-edge recording`: what can be done with a recording besides flying it."""

import argparse

from models.command_line import add_group, run_group

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
    add_group(parser, COMMANDS)


def run(args: argparse.Namespace) -> int:
    """Run the command that was chosen."""
    return run_group(args)
