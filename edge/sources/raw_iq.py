"""Bare I/Q files, as rtl_sdr, hackrf_transfer and GNU Radio write them: the samples, and nothing about them."""

from pathlib import Path

import numpy as np

from edge.sources.sample_types import complex_dtype
from edge.sources.sigmf import Capture, SigmfRecording
from models.errors import ConfigError, RecordingError

RAW_TYPES = {
    "cu8": "cu8", "ci8": "ci8", "cs8": "ci8", "cu16": "cu16_le", "ci16": "ci16_le", "cs16": "ci16_le",
    "ci32": "ci32_le", "cs32": "ci32_le", "cf32": "cf32_le", "fc32": "cf32_le", "cfile": "cf32_le", "cf64": "cf64_le",
}  # fmt: skip
"""Ending of the file's name -> SigMF datatype."""


def read_raw(path: Path, sample_rate_hz: float, centre_hz: float = 0.0, raw_type: str | None = None) -> SigmfRecording:
    """Open a bare file; bytes after the last whole sample are left out.

    Args:
        path: its ending says the type, such as flight.cs16.
        sample_rate_hz: samples a second.
        centre_hz: tuned frequency.
        raw_type: the type, where the ending does not say it: one of RAW_TYPES.
    Raises:
        ConfigError: neither the ending nor `raw_type` says the type.
        RecordingError: the file cannot be read, or has not one sample.
    """
    name = RAW_TYPES.get(raw_type or path.suffix.lower().lstrip("."), "")
    dtype = complex_dtype(name)
    if dtype is None:
        raise ConfigError(f"{path}: its ending does not say the type of the samples: name it by --raw-type")
    try:
        count = path.stat().st_size // (2 * dtype.itemsize)
        if count == 0:
            raise RecordingError(f"{path}: not one sample of {name}: take a longer recording")
        samples = np.memmap(path, dtype=dtype, mode="r", shape=(count, 2))
    except OSError as error:
        raise RecordingError(f"{path}: cannot be read ({error.strerror}): name a file of I/Q samples") from error
    capture = Capture(sample_start=0, centre_hz=centre_hz)
    return SigmfRecording(
        samples=samples, datatype=name, sample_rate_hz=sample_rate_hz, captures=(capture,), annotations=()
    )
