"""The onboard runtime: sources, pipeline, fusion, MAVLink, recording, replay. Never imports torch."""
