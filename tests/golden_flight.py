#!/usr/bin/env python3
"""Write the golden flight: short, synthetic, the same on every machine but for what image libraries round otherwise.

    python tests/golden_flight.py runs/golden.mcap

What the shipped model answers to it is in tests/golden; docs/regress.md says when and how that is renewed.
"""

import sys
from pathlib import Path

from edge.recording.synthetic import write_synthetic_flight
from edge.sources.synthetic import SyntheticFlight

SEED = 11
"""Every answer of the shipped model is clear, by 0.3 at least, so that rounding turns none; 5 of 90 are wrong."""
DWELL_S = 0.5
SECONDS = 3.0


def write_golden_flight(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    write_synthetic_flight(path, SyntheticFlight(SEED, DWELL_S), SECONDS, lambda done: None)


if __name__ == "__main__":
    write_golden_flight(Path(sys.argv[1]))
