"""What a header costs to write and to read, in ns: the best of several rounds, as others' work only adds."""

import timeit

import numpy as np

from edge.transport.messages import Kind
from edge.transport.wire import Stamp, decode_header, decode_message, encode_array

CALLS = 20_000
ROUNDS = 5


def header_ns() -> dict[str, float]:
    """Return the time of each call."""
    stamp, window = Stamp(1, 2, 3, 4, 5, 0, 1e6, 2.4e9), np.zeros((4096, 2), np.int16)
    header, payload = encode_array(Kind.IQ, stamp, window)
    calls = {
        "encode_array": lambda: encode_array(Kind.IQ, stamp, window),
        "decode_header": lambda: decode_header(header),
        "decode_message": lambda: decode_message((header, payload)),
    }
    return {
        name: round(min(timeit.repeat(call, number=CALLS, repeat=ROUNDS)) / CALLS * 1e9, 1)
        for name, call in calls.items()
    }
