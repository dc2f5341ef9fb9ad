"""What the tiny jobs of all codes share, with which `aiida-deeph setup codes` proves a code."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from aiida import orm
from aiida.engine import ProcessBuilder

# Runs a job of a title and returns its node; one that failed is an error.
Run = Callable[[str, ProcessBuilder], orm.CalcJobNode]
# Where there is one k-point, and the cell is so small that a run takes seconds.
MESH = (1, 1, 1)


def hydrogen_molecule(lengths: Sequence[float] = (6.0, 6.0, 6.0)) -> orm.StructureData:
    """Two atoms along x.

    :param lengths: of the rectangular cell, Angstrom.
    """
    structure = orm.StructureData(cell=np.diag(lengths).tolist())
    for x in (-0.37, 0.37):
        structure.append_atom(symbols="H", position=(x, 0.0, 0.0))
    return structure


def gamma() -> orm.KpointsData:
    """The mesh of one point."""
    node = orm.KpointsData()
    node.set_kpoints_mesh(list(MESH))
    return node
