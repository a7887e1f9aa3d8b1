"""Bundles that ship, and what differs between two."""
