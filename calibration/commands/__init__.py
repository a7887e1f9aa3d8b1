"""Subcommands of `uav-calibrate`."""
