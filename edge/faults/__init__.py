"""Faults that a user can name, and what they do to a flight's events."""
