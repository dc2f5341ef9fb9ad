"""Supercells."""

from __future__ import annotations

import numpy as np

from aiida_deeph.engine.domain.structure import Structure


def repeated(parent: Structure, counts: tuple[int, int, int]) -> Structure:
    """The parent repeated along its lattice vectors, copy by copy."""
    cells = np.array(np.meshgrid(*map(range, counts), indexing="ij")).reshape(3, -1).T
    positions = (parent.positions[None] + (cells @ parent.cell)[:, None]).reshape(-1, 3)
    return Structure(parent.symbols * len(cells), positions, parent.cell * np.array(counts)[:, None], parent.pbc)
