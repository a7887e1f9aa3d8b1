"""Logs that vehicles and ground stations write, and what is made of them."""
