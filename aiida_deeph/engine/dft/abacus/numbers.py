"""Long lists of printed numbers, many times faster than one conversion each."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray

# Digits of the largest integer that occurs: orbitals, and elements of one lattice vector.
_INTEGER_DIGITS = 12
# Numbers that are converted together: what they need stays in the cache of a core.
_CHUNK = 1 << 15
_POWERS = 10.0 ** np.arange(120)


def parse_reals(text: bytes) -> NDArray[np.float64]:
    """Numbers as C's `%.Ne` prints them, all with the same N, whatever stands between them.

    The digits of a mantissa make an integer m, and m times or divided by a power of ten is the number, rounded once.

    :raises ValueError: not such numbers.
    """
    characters = np.frombuffer(text, np.uint8)
    marks = np.flatnonzero(characters == ord("e"))
    if not len(marks):
        return _parse_slowly(text)
    point = text.find(b".")
    decimals = int(marks[0]) - point - 1
    if point < 1 or not 1 <= decimals <= 17 or marks[0] < decimals + 2:
        return _parse_slowly(text)
    # One character more at either end, so that sign and exponent of the first and last number exist.
    characters = np.frombuffer(b" " + text + b"    ", np.uint8)
    marks = marks + 1
    values = np.empty(len(marks))
    for begin in range(0, len(marks), _CHUNK):
        e = marks[begin : begin + _CHUNK]
        good = characters[e - decimals - 1] == ord(".")
        lead = characters[e - decimals - 2] - ord("0")
        good &= lead <= 9
        mantissa = lead.astype(np.int64)
        rest = decimals
        if rest >= 8:
            eight, are_digits = _eight_digits(characters, e - rest)
            good &= are_digits
            mantissa = mantissa * 10**8 + eight
            rest -= 8
        for offset in range(rest, 0, -1):
            digit = characters[e - offset] - ord("0")
            good &= digit <= 9
            mantissa *= 10
            mantissa += digit
        sign = characters[e + 1]
        tens, ones = (characters[e + n] - ord("0") for n in (2, 3))
        good &= ((sign == ord("-")) | (sign == ord("+"))) & (tens <= 9) & (ones <= 9)
        good &= characters[e + 4] - ord("0") > 9
        if not good.all():
            return _parse_slowly(text)
        power = (10 * tens.astype(np.int64) + ones) * np.where(sign == ord("-"), -1, 1) - decimals
        scale = _POWERS[np.abs(power)]
        number = np.where(power < 0, mantissa / scale, mantissa * scale)
        values[begin : begin + _CHUNK] = np.where(characters[e - decimals - 3] == ord("-"), -number, number)
    return values


def _eight_digits(
    characters: NDArray[np.uint8], begin: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The number that eight digits make, and whether they are digits: all eight bytes in one word, pairs, fours, eight.

    :param begin: place of the first digit, shape (n,).
    """
    words = np.ndarray((len(characters) - 7,), "<u8", characters, strides=(1,))[begin]
    words = words ^ np.uint64(0x3030303030303030)
    # Adding 0x76 sets the highest bit of a byte that exceeds 9.
    above = ((words & np.uint64(0x7F7F7F7F7F7F7F7F)) + np.uint64(0x7676767676767676)) | words
    good = (above & np.uint64(0x8080808080808080)) == 0
    for mask, factor, shift in (
        (0x0F0F0F0F0F0F0F0F, 10 * 2**8 + 1, 8),
        (0x00FF00FF00FF00FF, 100 * 2**16 + 1, 16),
        (0x0000FFFF0000FFFF, 10000 * 2**32 + 1, 32),
    ):
        words = ((words & np.uint64(mask)) * np.uint64(factor)) >> np.uint64(shift)
    return words.astype(np.int64), good


def parse_integers(text: bytes) -> NDArray[np.int64]:
    """Integers without signs, separated by white space.

    :raises ValueError: something else stands there.
    """
    characters = np.frombuffer(b" " * _INTEGER_DIGITS + text + b" ", np.uint8)
    digit = characters - ord("0") <= 9
    if ((characters > ord(" ")) & ~digit).any():
        raise ValueError("no integers")
    ends = np.flatnonzero(digit[:-1] & ~digit[1:])
    values = np.zeros(len(ends), dtype=np.int64)
    inside = np.ones(len(ends), dtype=bool)
    for place in range(_INTEGER_DIGITS):
        at = ends - place
        inside &= digit[at]
        if not inside.any():
            return values
        values += np.where(inside, characters[at] - ord("0"), 0).astype(np.int64) * 10**place
    raise ValueError(f"an integer of {_INTEGER_DIGITS} digits")


def _parse_slowly(text: bytes) -> NDArray[np.float64]:
    for character in (b"(", b")", b","):
        text = text.replace(character, b" ")
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)
        try:
            return np.fromstring(text.decode("ascii", "replace"), dtype=np.float64, sep=" ")
        except DeprecationWarning:
            raise ValueError("no numbers") from None
