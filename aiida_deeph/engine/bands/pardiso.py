"""Sparse L D L^dagger by MKL PARDISO, called directly: Hermitian and symmetric indefinite, with inertia.

The wheel `mkl` brings the library (extra `pardiso`); nothing here is needed where it is absent.
O. Schenk, K. Gaertner, Future Gener. Comput. Syst. 20, 475 (2004).
"""

from __future__ import annotations

import ctypes
import ctypes.util
import importlib.metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aiida_deeph.engine.bands.factor import Factorisation
from aiida_deeph.engine.errors import DataError

HERMITIAN, SYMMETRIC = -4, -2  # complex and real, both indefinite
ANALYSE, FACTOR, SOLVE, RELEASE = 11, 22, 33, -1

MESSAGES = {-2: "not enough memory", -4: "zero pivot", -8: "32-bit integer overflow", -9: "not enough memory"}


def find_library() -> Path | str | None:
    """Place of libmkl_rt: that of the wheel, else what the loader finds; None without one."""
    try:
        files = importlib.metadata.files("mkl") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name.startswith(("libmkl_rt.so", "libmkl_rt.dylib", "mkl_rt.2.dll")):
            place = Path(str(file.locate())).resolve()
            if place.is_file():
                return place
    return ctypes.util.find_library("mkl_rt")


def load_library() -> ctypes.CDLL | None:
    """The library, or None where it is absent or cannot be loaded."""
    place = find_library()
    if place is None:
        return None
    try:
        return ctypes.CDLL(str(place))
    except OSError:
        return None


class PardisoFactoriser:
    """Factorises matrices of one pattern: the symbolic analysis is done once, at the first matrix.

    :param indptr: of the full CSR pattern, sorted, with all diagonal entries, shape (n + 1,).
    :param indices: of the full CSR pattern, shape (n_nonzero,).
    :param complex_values: complex Hermitian if true, else real symmetric.
    """

    name = "pardiso"

    def __init__(
        self, library: ctypes.CDLL, indptr: NDArray[Any], indices: NDArray[Any], *, complex_values: bool
    ) -> None:
        n = len(indptr) - 1
        self._call = library.pardiso
        self._n = n
        self._dtype = np.dtype(np.complex128 if complex_values else np.float64)
        # PARDISO reads the upper triangle; a mask of one byte per entry picks it from each new matrix.
        self._upper = indices >= np.repeat(np.arange(n, dtype=indices.dtype), np.diff(indptr))
        counts = np.add.reduceat(self._upper, indptr[:-1], dtype=np.int64)
        self._indptr = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
        self._indices = indices[self._upper].astype(np.int32)
        self._handle = np.zeros(64, dtype=np.int64)
        self._settings = np.zeros(64, dtype=np.int32)
        # Pivots of one row for complex matrices, of two for real ones: the library tells the inertia of these alone.
        pivoting = 0 if complex_values else 1
        for place, value in {0: 1, 1: 2, 7: 2, 9: 10, 20: pivoting, 34: 1}.items():
            # not the defaults; METIS; 2 refinements; pivots perturbed at 1e-10; pivoting; count from 0
            self._settings[place] = value
        self._type = HERMITIAN if complex_values else SYMMETRIC
        self._values: NDArray[Any] | None = None
        self._analysed = False

    def analyse(self) -> int:
        """Order the unknowns; return the bytes that a factorisation will take at its peak."""
        if not self._analysed:
            self._run(ANALYSE)
            self._analysed = True
        s = self._settings
        return 1024 * max(int(s[14]), int(s[15]) + int(s[16]))

    def factor(self, data: NDArray[Any]) -> Factorisation:
        """Factorise the matrix with these entries of the full pattern; the one before becomes invalid.

        :raises DataError: memory ran out or the library failed.
        """
        self.analyse()
        self._values = np.ascontiguousarray(data[self._upper], dtype=self._dtype)
        self._run(FACTOR)
        s = self._settings
        positive, negative = int(s[21]), int(s[22])
        counted = positive + negative == self._n
        return Factorisation(self._solve, negative if counted else None, 1024 * (int(s[15]) + int(s[16])))

    def _solve(self, right: NDArray[Any]) -> NDArray[Any]:
        columns = np.asfortranarray(right, dtype=self._dtype)
        solution = np.empty_like(columns, order="F")
        self._run(SOLVE, columns, solution)
        return solution

    def _run(self, phase: int, right: NDArray[Any] | None = None, solution: NDArray[Any] | None = None) -> None:
        def integer(value: int) -> Any:
            return ctypes.byref(ctypes.c_int32(value))

        def pointer(array: NDArray[Any] | None) -> Any:
            return None if array is None else array.ctypes.data_as(ctypes.c_void_p)

        error = ctypes.c_int32(0)
        n_right = 1 if right is None or right.ndim == 1 else right.shape[1]
        self._call(
            pointer(self._handle), integer(1), integer(1), integer(self._type), integer(phase), integer(self._n),
            pointer(self._values), pointer(self._indptr), pointer(self._indices), None, integer(n_right),
            pointer(self._settings), integer(0), pointer(right), pointer(solution), ctypes.byref(error),
        )  # fmt: skip
        if error.value:
            raise DataError(
                "PARDISO failed",
                where=f"phase {phase}",
                found=f"error {error.value} {MESSAGES.get(error.value, '')}",
            )

    def close(self) -> None:
        """Give the memory of the factors back."""
        if self._analysed:
            self._run(RELEASE)
            self._analysed = False
