"""Single layers by their name, from ase."""

from __future__ import annotations

from ase.build import graphene, mx2

from aiida_deeph.engine.domain.structure import Structure
from aiida_deeph.engine.errors import InputError
from aiida_deeph.engine.io.structure import from_ase

# Name -> lattice constant and, of dichalcogenides, distance of the outer planes, Angstrom (experiment, rounded).
HONEYCOMBS: dict[str, tuple[float, float]] = {
    "graphene": (2.46, 0.0),
    "BN": (2.504, 0.0),
    "MoS2": (3.16, 3.17),
    "MoSe2": (3.29, 3.34),
    "WS2": (3.153, 3.14),
    "WSe2": (3.282, 3.34),
}


def honeycomb(name: str, vacuum: float = 20.0) -> Structure:
    """A single layer by its name, periodic in the plane, its lattice vectors 60 degrees apart.

    :param vacuum: height of the cell, Angstrom.
    :raises InputError: no such layer.
    """
    if name not in HONEYCOMBS:
        raise InputError("unknown layer", found=name, expected=f"one of {', '.join(HONEYCOMBS)}, or a structure file")
    a, thickness = HONEYCOMBS[name]
    if thickness:
        atoms = mx2(formula=name, kind="2H", a=a, thickness=thickness, vacuum=None)
    else:
        atoms = graphene(formula="C2" if name == "graphene" else name, a=a)
    atoms.cell[1] += atoms.cell[0]
    atoms.cell[2] = (0.0, 0.0, vacuum)
    atoms.pbc = (True, True, False)
    return from_ase(atoms)
