"""The structure that CP2K ran: what its output prints counts, what its input states has more digits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aiida_deeph.engine.dft.cp2k.input_file import (
    Section,
    StatedGeometry,
    cell_of,
    check_threshold,
    read_input,
    stated_geometry,
)
from aiida_deeph.engine.dft.cp2k.main_output import MainOutput, PrintedGeometry
from aiida_deeph.engine.domain.structure import Structure
from aiida_deeph.engine.errors import InputError

# A unit of the last digit that is printed, of positions and lengths and of lattice vectors, Angstrom.
SIX_DIGITS, THREE_DIGITS = 1.1e-6, 6e-4


def structure_of_run(output: MainOutput) -> tuple[Structure, tuple[int, ...], Section | None]:
    """The structure, the number of the kind of each atom, and the input if it can be read.

    Where the output prints the geometry, that of the input is taken if it is the same to the digits printed, else that
    of the output. At PRINT_LEVEL LOW it prints none: then nothing in the input may be able to change what it states.

    :raises InputError: ghost atoms, a geometry that neither output nor input tells, or matrices without small entries.
    """
    path = output.path.parent / Path(output.input_file).name
    root: Section | None = None
    stated: StatedGeometry | None = None
    unknown: InputError | None = None
    try:
        root = read_input(path)
        stated = stated_geometry(root, path)
    except InputError as error:
        unknown = error
    if root is not None:
        check_threshold(root, path)
    printed = output.geometry
    ghosts = [f"atom {n}" for n, charge in enumerate(printed.charges if printed else (), start=1) if charge <= 0]
    ghosts += sorted(set(stated.kinds) & stated.ghosts) if stated else []
    if ghosts:
        raise InputError(
            "ghost atoms are not supported", where=path, found=", ".join(ghosts), expected="orbitals on atoms only"
        )
    if printed is not None:
        return _as_printed(printed, stated, output.path), printed.kinds, root
    if stated is None:
        raise unknown or InputError("geometry is not known", where=path)
    numbers = {kind.name: number for number, kind in output.kinds.items()}
    missing = sorted(set(stated.kinds) - set(numbers))
    if stated.moved_by or missing:
        raise InputError(
            "geometry of the run is not known",
            where=output.path,
            found=f"no coordinates in the output, and {', '.join(stated.moved_by or missing)} in the input",
            remedy="set PRINT_LEVEL MEDIUM",
        )
    symbols = tuple(stated.elements[kind] for kind in stated.kinds)
    structure = Structure(symbols, stated.positions, stated.cell, stated.pbc)
    return structure, tuple(numbers[kind] for kind in stated.kinds), root


def _as_printed(printed: PrintedGeometry, stated: StatedGeometry | None, path: Path) -> Structure:
    cell, positions = _printed_cell(printed, path), printed.positions
    if stated is not None:
        if np.abs(stated.cell - printed.vectors).max() < THREE_DIGITS and _same_shape(stated.cell, printed):
            cell = stated.cell
        if len(stated.positions) == len(positions):
            # CENTER_COORDINATES moves all atoms alike.
            shift = (positions - stated.positions).mean(axis=0)
            if np.abs(shift).max() < SIX_DIGITS:
                shift = np.zeros(3)
            if np.abs(stated.positions + shift - positions).max() < SIX_DIGITS:
                positions = stated.positions + shift
    if cell is None:
        raise InputError(
            "cell of the run is not known",
            where=path,
            found="lattice vectors with three decimals, which are not those of the input",
            remedy="state A, B and C in the input as they are run",
        )
    return Structure(printed.symbols, positions, cell, printed.pbc)


def _printed_cell(printed: PrintedGeometry, path: Path) -> NDArray[np.float64] | None:
    """From lengths and angles, which have six decimals, if a is along x and b in the plane of x and y."""
    cell = cell_of(printed.lengths, printed.angles)
    return cell if np.abs(cell - printed.vectors).max() < THREE_DIGITS else None


def _same_shape(cell: NDArray[np.float64], printed: PrintedGeometry) -> bool:
    lengths = np.linalg.norm(cell, axis=1)
    metric = (cell / lengths[:, None]) @ (cell / lengths[:, None]).T
    angles = np.degrees(np.arccos(np.clip([metric[1, 2], metric[0, 2], metric[0, 1]], -1, 1)))
    return bool(
        np.abs(lengths - printed.lengths).max() < SIX_DIGITS and np.abs(angles - printed.angles).max() < 2 * SIX_DIGITS
    )
