"""Subcommands of `uav-train`."""
