"""Long lists of printed numbers, many times faster than one conversion each."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Numbers that are converted together: what they need stays in the cache of a core.
_CHUNK = 1 << 14
# Exact, as all powers of ten up to 1e22 are; numpy's own power need not be.
_POWERS = np.array([float(f"1e{n}") for n in range(23)])
_ZEROS = np.uint64(0x3030303030303030)
# Decimals of the numbers that are converted fast: ABACUS prints so many.
_DECIMALS = 8
_BYTE, _TWO_BYTES = np.uint64(0xFF), np.uint64(0xFFFF)


def _table(pairs: Iterable[tuple[bytes, int]], size: int, dtype: type) -> NDArray[Any]:
    """What some characters, as a number with the first in its lowest byte, stand for; all others for 255."""
    table = np.full(size, 255, dtype=dtype)
    for characters, value in pairs:
        table[int.from_bytes(characters, "little")] = value
    return table


# A digit with the point behind it, two digits, a sign (0 for any other character).
_LEADS = _table(((b"%d." % n, n) for n in range(10)), 1 << 16, np.uint64)
_EXPONENTS = _table(((b"%02d" % n, n) for n in range(100)), 1 << 16, np.int16)
_SIGNS = np.zeros(256, dtype=np.int16)
_SIGNS[[ord("+"), ord("-")]] = 1, -1

Words = NDArray[np.uint64]


def parse_reals(text: bytes) -> NDArray[np.float64]:
    """Numbers as C's `%.Ne` prints them, whatever stands between them; with N = 8 many times faster than otherwise.

    The digits of a mantissa make an integer m, and m times or divided by a power of ten is the number, rounded once.
    Eight characters are taken as one word: sign, digit and point; the decimals; the exponent.

    :raises ValueError: not such numbers.
    """
    # Some characters more at either end, so that the words of the first and last number exist.
    characters = np.frombuffer(b" " * 11 + text + b" " * 8, np.uint8)
    marks = np.flatnonzero(characters == ord("e"))
    if not len(marks) or marks[0] < 11 + _DECIMALS + 2:
        return _parse_slowly(text)
    words = _words(characters)
    values = np.empty(len(marks))
    for begin in range(0, len(marks), _CHUNK):
        e = marks[begin : begin + _CHUNK]
        head, tail = words[e - _DECIMALS - 3], words[e]
        decimals = words[e - _DECIMALS] ^ _ZEROS
        lead = _LEADS[head >> np.uint64(8) & _TWO_BYTES]
        power = _EXPONENTS[tail >> np.uint64(16) & _TWO_BYTES]
        sign = _SIGNS[tail >> np.uint64(8) & _BYTE]
        good = _are_digits(decimals) & (lead <= 9) & (power <= 99) & (sign != 0)
        good &= (tail >> np.uint64(32) & _BYTE ^ np.uint64(0x30)) > 9
        if not good.all():
            return _parse_slowly(text)
        power = sign * power - np.int16(_DECIMALS)
        number = (lead * np.uint64(10**_DECIMALS) + _value(decimals)).astype(np.float64)
        largest = len(_POWERS) - 1
        if power.max() > 0:
            number *= _POWERS[np.clip(power, 0, largest)]
        number /= _POWERS[np.clip(-power, 0, largest)]
        for n in np.flatnonzero(np.abs(power) > largest):
            # Of numbers so far from one the power is no float: it would be rounded before the number is.
            number[n] = float(characters[e[n] - _DECIMALS - 2 : e[n] + 4].tobytes())
        number *= np.where(head & _BYTE == np.uint64(ord("-")), -1.0, 1.0)
        values[begin : begin + _CHUNK] = number
    return values


def parse_integers(text: bytes) -> NDArray[np.int64]:
    """Integers of up to eight digits without signs, separated by white space.

    :raises ValueError: something else stands there.
    """
    characters = np.frombuffer(b" " * 8 + text + b" " * 8, np.uint8)
    digit = characters - ord("0") <= 9
    if ((characters > ord(" ")) & ~digit).any():
        raise ValueError("no integers")
    # Between a space and a digit, between a digit and a space, ..
    edges = np.flatnonzero(digit[1:] != digit[:-1])
    ends, lengths = edges[1::2], edges[1::2] - edges[::2]
    if lengths.max(initial=0) > 8:
        raise ValueError(f"an integer of {lengths.max()} digits")
    words = _words(characters)
    values = np.empty(len(ends), dtype=np.int64)
    for begin in range(0, len(ends), _CHUNK):
        part = slice(begin, begin + _CHUNK)
        # The last characters of eight are the digits: zeros in place of those before.
        shift = (8 * (8 - lengths[part])).astype(np.uint64)
        values[part] = _value((words[ends[part] - 7] ^ _ZEROS) >> shift << shift)
    return values


def _words(characters: NDArray[np.uint8]) -> Words:
    """Eight characters from each place on as one number, the first of them in its lowest byte."""
    return np.ndarray((len(characters) - 7,), "<u8", characters, strides=(1,))


def _are_digits(words: Words) -> NDArray[np.bool_]:
    """Whether all bytes are at most 9: adding 0x76 sets the highest bit of one that exceeds it."""
    above = ((words & np.uint64(0x7F7F7F7F7F7F7F7F)) + np.uint64(0x7676767676767676)) | words
    return (above & np.uint64(0x8080808080808080)) == 0


def _value(words: Words) -> Words:
    """The number that eight digits make, all in one word: pairs, fours, eight."""
    for mask, factor, shift in (
        (0x0F0F0F0F0F0F0F0F, 10 * 2**8 + 1, 8),
        (0x00FF00FF00FF00FF, 100 * 2**16 + 1, 16),
        (0x0000FFFF0000FFFF, 10000 * 2**32 + 1, 32),
    ):
        words = ((words & np.uint64(mask)) * np.uint64(factor)) >> np.uint64(shift)
    return words


def _parse_slowly(text: bytes) -> NDArray[np.float64]:
    for character in (b"(", b")", b","):
        text = text.replace(character, b" ")
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)
        try:
            return np.fromstring(text.decode("ascii", "replace"), dtype=np.float64, sep=" ")
        except DeprecationWarning:
            raise ValueError("no numbers") from None
