"""Where the spins of an orbital stand in H."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from aiida_deeph.engine.domain.hamiltonian import RealSpaceHamiltonian


def spin_rows(data: RealSpaceHamiltonian) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of H of the up and of the down copy of each spatial orbital, both of shape (n_orbitals,)."""
    counts = data.orbitals_per_atom
    first = np.concatenate([[0], np.cumsum(counts)])[:-1]
    up = np.arange(counts.sum()) + np.repeat(first, counts)
    return up, up + np.repeat(counts, counts)
