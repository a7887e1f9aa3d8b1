"""What others may ask of us, and what we ask of the autopilot."""
