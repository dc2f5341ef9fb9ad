"""Spin modes and the layout of their blocks."""

from __future__ import annotations

from enum import StrEnum

import numpy as np


class SpinMode(StrEnum):
    """How spin enters H.

    Without spin a block is real, shape (n_i, n_j). With spin, collinear or not, it is complex, shape (2 n_i, 2 n_j),
    spin-major: [[uu, ud], [du, dd]]. Overlaps never carry spin.
    """

    NONE = "none"
    COLLINEAR = "collinear"
    NONCOLLINEAR = "noncollinear"

    @property
    def multiplicity(self) -> int:
        """Rows of a Hamiltonian block per spatial orbital: 1 or 2."""
        return 1 if self is SpinMode.NONE else 2

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """Element type of the Hamiltonian: float64 or complex128."""
        return np.dtype(np.float64 if self is SpinMode.NONE else np.complex128)

    @property
    def electrons_per_state(self) -> int:
        """Electrons that one eigenstate holds: 2 without spin, 1 with it."""
        return 2 if self is SpinMode.NONE else 1
