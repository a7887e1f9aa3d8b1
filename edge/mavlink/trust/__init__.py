"""Whose frames are believed: signatures, keys, policies."""
