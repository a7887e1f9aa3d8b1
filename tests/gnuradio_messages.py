"""Messages as a GNU Radio sink with `pass_tags` sends them, for tests that have no GNU Radio."""

import struct

import numpy as np

RATE_HZ = 1_000_000
EPOCH_S = 1_700_000_000


def samples(first: int, count: int) -> bytes:
    """Return complex64 samples that carry their own number."""
    numbers = np.arange(first, first + count, dtype=np.float32)
    return np.stack((numbers, -numbers), axis=1).tobytes()


def double(value: float) -> bytes:
    return b"\x04" + struct.pack(">d", value)


def time(seconds: float) -> bytes:
    whole = int(seconds)
    return b"\x0c\x00\x00\x00\x02\x0b" + struct.pack(">Q", EPOCH_S + whole) + double(seconds - whole)


def message(offset: int, count: int, *tags: tuple[int, str, bytes]) -> list[bytes]:
    """Return a message of `count` samples from `offset` on, with tags (offset, key, PMT)."""
    head = struct.pack("<HBQQ", 0x5FF0, 1, offset, len(tags))
    for at, key, value in tags:
        head += struct.pack("<Q", at) + b"\x02" + struct.pack(">H", len(key)) + key.encode() + value + b"\x01"
    return [head + samples(offset, count)]
