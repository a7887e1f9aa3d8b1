"""`uav-calibrate bundle`: what becomes of a bundle after its export, until it flies."""

import argparse

from models.command_line import add_group, run_group

COMMANDS: dict[str, tuple[str, str]] = {
    "build": ("calibration.commands.bundle_build", "a base bundle and a work folder become a new bundle"),
    "info": ("calibration.commands.bundle_info", "what a bundle holds, once it is verified"),
    "diff": ("calibration.commands.bundle_diff", "what differs between two bundles"),
    "verify": ("calibration.commands.bundle_verify", "check hashes, signature and, if asked, the answers"),
    "keygen": ("calibration.commands.bundle_keygen", "make a pair of keys to sign with"),
    "sign": ("calibration.commands.bundle_sign", "sign a bundle"),
    "install": ("calibration.commands.bundle_install", "let a bundle fly, if it passes its self-test"),
    "rollback": ("calibration.commands.bundle_rollback", "let the last good bundle fly again"),
}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the commands with their arguments."""
    add_group(parser, COMMANDS)


def run(args: argparse.Namespace) -> int:
    """Run the command that was chosen."""
    return run_group(args)
