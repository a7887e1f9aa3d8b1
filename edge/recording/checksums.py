"""CRC-32 of two stretches from the CRCs of each: what was summed once need not be read again.

Source: zlib's crc32_combine; the polynomial arithmetic is modulo that of CRC-32, bits reflected.
"""

import functools

_POLYNOMIAL = 0xEDB88320
_ONE = 1 << 31


def combined(first: int, second: int, second_bytes: int) -> int:
    """Return the CRC-32 of two stretches that follow each other, given the CRC-32 of each and the second's length."""
    return _product(_zeros(second_bytes), first) ^ second


def _zeros(count: int) -> int:
    """Return x to the power of 8 * count: what `count` bytes of zero do to a CRC."""
    power, result = 3, _ONE
    while count:
        if count & 1:
            result = _product(_square(power), result)
        count >>= 1
        power += 1
    return result


@functools.cache
def _square(power: int) -> int:
    """Return x to the power of 2 ** power."""
    if power == 0:
        return _ONE >> 1
    below = _square(power - 1)
    return _product(below, below)


def _product(a: int, b: int) -> int:
    product, bit = 0, _ONE
    while a:
        if a & bit:
            product ^= b
            a ^= bit
        bit >>= 1
        b = b >> 1 ^ _POLYNOMIAL if b & 1 else b >> 1
    return product
