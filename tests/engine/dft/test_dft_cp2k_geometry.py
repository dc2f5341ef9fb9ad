"""CP2K: the geometry is what the program ran, by its output or by what its input states."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from aiida_deeph.engine.dft.cp2k.input_file import StatedGeometry, parse_input, stated_geometry
from aiida_deeph.engine.dft.cp2k.reader import Cp2kReader
from aiida_deeph.engine.errors import InputError
from aiida_deeph.engine.overlap.gaussian import overlap_gaussian
from tests.engine.dft.cp2k_files import basis_of_output

Unpack = Callable[[str], Path]


def stated(text: str, folder: Path) -> StatedGeometry:
    """The geometry of an input with this SUBSYS."""
    return stated_geometry(parse_input(f"&FORCE_EVAL\n&SUBSYS\n{text}\n&END\n&END"), folder / "a.inp")


def test_structure_from_other_inputs(tmp_path: Path) -> None:
    text = """&CELL
          ABC [bohr] 4 5 \\
             6
          ALPHA_BETA_GAMMA 90 90 120  ! a comment
          PERIODIC XY
        &END
        &COORD
          SCALED
          C1 0.5 1/4 -0.5D0
        &END COORD"""
    found = stated(text, tmp_path)
    bohr = 0.529177210903
    cell = np.array([[4, 0, 0], [-2.5, 5 * np.sqrt(3) / 2, 0], [0, 0, 6]]) * bohr
    assert found.cell == pytest.approx(cell) and found.pbc == (True, True, False)
    assert found.positions[0] == pytest.approx(np.array([0.5, 0.25, -0.5]) @ cell)
    assert found.elements == {"C1": "C"} and not found.moved_by and not found.ghosts
    with pytest.raises(InputError, match="preprocessor"):
        parse_input("@SET X 1")
    with pytest.raises(InputError, match="without &END"):
        parse_input("&DFT")
    with pytest.raises(InputError, match=r"number is not understood.*4 5"):
        stated(text.replace("\\\n             6", ""), tmp_path)
    with pytest.raises(InputError, match="position is not understood"):
        stated(text.replace("1/4", "1/0"), tmp_path)


# Geometry that CP2K ran, by its output or by what its input states, of inputs that say it in other ways.
RAN: dict[str, tuple[list[float], list[float], list[float]]] = {
    # lengths of the lattice vectors, angles, position of the last atom
    "low": ([1.9, 5, 5], [90, 90, 90], [0.93, 0.3, 0]),
    "muc": ([1.9, 5, 5], [90, 90, 90], [0.93, 0.3, 0]),
    "muc2": ([3.8, 5, 5], [90, 90, 90], [2.83, 0.3, 0]),
    "frac": ([1.9, 5, 5], [90, 90, 90], [1.9 * 2 / 3, 0.3, 0]),
    "both": ([2.1, 5.2, 5.3], [90, 90, 90], [0.93, 0.3, 0]),
    "sym": ([2.4, 2.4, 4], [90, 90, 60], [0.93, 0.3, 0]),
    "angles": ([2.4, 2.4, 4], [90, 90, 120], [0.93, 0.3, 0]),
    "units": ([1.905038, 4.974266, 5.027183], [85.943669, 90, 90], [0.899601, 0.158753, 0]),
    "ext": ([2.0, 5.1, 5], [90, 90, 90], [0.93, 0.35, 0]),
    "perm": ([5, 5, 1.9], [90, 90, 90], [0.93, 0.3, 0]),
    "center": ([1.9, 5, 5], [90, 90, 90], [1.365, 2.55, 2.45]),
}


@pytest.mark.parametrize("name", RAN)
def test_geometry_is_what_the_program_ran_not_what_the_input_says(cp2k_run: Unpack, name: str) -> None:
    """S of the run is that of integrals over the printed basis at these positions, in this cell."""
    pytest.importorskip("pyscf")
    folder = cp2k_run("geometries") / name
    data = Cp2kReader().read(folder)
    lengths, angles, last = RAN[name]
    cell = data.structure.cell
    assert np.linalg.norm(cell, axis=1) == pytest.approx(np.array(lengths), abs=1e-6)
    cosines = [
        cell[i] @ cell[j] / np.linalg.norm(cell[i]) / np.linalg.norm(cell[j]) for i, j in ((1, 2), (0, 2), (0, 1))
    ]
    assert np.degrees(np.arccos(cosines)) == pytest.approx(np.array(angles), abs=1e-5)
    assert data.structure.positions[-1] == pytest.approx(np.array(last), abs=1e-6)
    basis = basis_of_output((folder / "aiida.out").read_text())
    expected = overlap_gaussian(data.structure, basis, data.overlap.atom_pairs)[1]
    assert np.abs(expected.entries - data.overlap.entries).max() < 2e-5


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ghost", r"ghost atoms are not supported.*found atom 3"),
        ("low_center", r"geometry of the run is not known.*CENTER_COORDINATES.*PRINT_LEVEL MEDIUM"),
        ("coarse", r"matrices lack entries.*KS_CSR_WRITE; found THRESHOLD 1.0E-02"),
    ],
)
def test_runs_that_are_refused(cp2k_run: Unpack, name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Cp2kReader().read(cp2k_run("geometries") / name)


def test_ghosts_at_low_print_level_by_their_kind(cp2k_run: Unpack) -> None:
    folder = cp2k_run("geometries") / "low"
    path = folder / "bn.inp"
    path.write_text(path.read_text().replace("&KIND H\n", "&KIND H\n GHOST\n"))
    with pytest.raises(InputError, match=r"ghost atoms are not supported.*found H"):
        Cp2kReader().read(folder)


def test_geometry_of_the_output_alone(cp2k_run: Unpack) -> None:
    """Without the input, or with that of another run: what is printed, to its digits."""
    folder = cp2k_run("geometries") / "muc"
    known = Cp2kReader().read(folder)
    path = folder / "bn.inp"
    path.write_text(path.read_text().replace("0.93", "0.95").replace("A 1.9", "A 1.95"))
    for _ in range(2):
        data = Cp2kReader().read(folder)
        assert data.structure.positions == pytest.approx(known.structure.positions, abs=1e-6)
        assert data.structure.cell == pytest.approx(known.structure.cell, abs=1e-6)
        path.unlink(missing_ok=True)
    # Of a cell in another orientation three decimals are too few.
    with pytest.raises(InputError, match="cell of the run is not known"):
        folder = folder.parent / "perm"
        (folder / "bn.inp").unlink()
        Cp2kReader().read(folder)
