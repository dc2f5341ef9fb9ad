"""Sequential unformatted Fortran files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aiida_deeph.engine.errors import DataError, InputError


class FortranRecords:
    """Records of a file, one after the other; each stands between two copies of its length (4 bytes, little endian).

    :param path: of the file, which is read at once.
    :raises InputError: the file cannot be read or is not of this kind.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._content = memoryview(path.read_bytes())
        except OSError as error:
            raise InputError("file cannot be read", where=path, found=error) from None
        self._place = 0
        length = self._length(0)
        if length is None or length > len(self._content) - 8 or self._length(4 + length) != length:
            raise InputError(
                "not a sequential Fortran file of this byte order",
                where=path,
                expected="record lengths of 4 bytes, little endian",
            )

    @property
    def at_end(self) -> bool:
        """No record is left."""
        return self._place == len(self._content)

    def peek(self) -> int:
        """Bytes of the next record.

        :raises DataError: the file is cut off.
        """
        length = self._length(self._place)
        if length is None:
            raise DataError("file is truncated", where=self.path, found=f"end after {len(self._content)} bytes")
        return length

    def raw(self, expected: int | None = None) -> memoryview:
        """The next record.

        :param expected: bytes that it has to have.
        :raises DataError: the file is cut off, or the record has another length.
        """
        length = self.peek()
        end = self._place + 4 + length
        if length < 0 or end + 4 > len(self._content):
            raise DataError("file is truncated", where=self.path, found=f"end after {len(self._content)} bytes")
        if self._length(end) != length or (expected is not None and length != expected):
            raise DataError(
                "file is damaged", where=f"{self.path}, byte {self._place}", found=length, expected=expected
            )
        record = self._content[self._place + 4 : end]
        self._place = end + 4
        return record

    def integers(self, count: int) -> NDArray[np.int64]:
        """The next record as that many 4-byte integers."""
        return np.frombuffer(self.raw(4 * count), "<i4").astype(np.int64)

    def reals(self, count: int) -> NDArray[np.float64]:
        """The next record as that many reals."""
        return np.frombuffer(self.raw(8 * count), "<f8").astype(np.float64)

    def rows(self, counts: NDArray[np.int64], dtype: str) -> NDArray[np.generic]:
        """As many records as `counts` has numbers, each with that many values, one after the other, without the marks.

        :raises DataError: the file is cut off, or a record has another length.
        """
        lengths = counts * np.dtype(dtype).itemsize
        ends = self._place + np.cumsum(lengths + 8)
        if not len(ends) or ends[-1] > len(self._content):
            raise DataError("file is truncated", where=self.path, found=f"end after {len(self._content)} bytes")
        words = np.frombuffer(self._content[self._place : int(ends[-1])], "<i4")
        after = (ends - self._place) // 4
        before = after - lengths // 4 - 2
        if (words[before] != lengths).any() or (words[after - 1] != lengths).any():
            raise DataError("file is damaged", where=f"{self.path}, byte {self._place}", expected="rows of the matrix")
        self._place = int(ends[-1])
        # Copies of whole rows: many times faster than a mask of single words.
        kept = [words[a:b] for a, b in zip((before + 1).tolist(), (after - 1).tolist(), strict=True)]
        return np.concatenate(kept).view(dtype)

    def _length(self, place: int) -> int | None:
        if place < 0 or place + 4 > len(self._content):
            return None
        return int(np.frombuffer(self._content[place : place + 4], "<i4")[0])
