"""PySCF on molecules in empty space, against PySCF itself and the molecules of QHNet's fixtures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.linalg

pytest.importorskip("pyscf")

from pyscf import dft, gto

from aiida_deeph.engine.dft.pyscf.config import PyscfConfig
from aiida_deeph.engine.dft.pyscf.reader import PyscfReader
from aiida_deeph.engine.dft.pyscf.runner import run_pyscf
from aiida_deeph.engine.domain.basis import SpinMode
from aiida_deeph.engine.domain.checks import run_gates
from aiida_deeph.engine.domain.gate import failures
from aiida_deeph.engine.domain.hamiltonian import RealSpaceHamiltonian
from aiida_deeph.engine.domain.structure import Structure
from aiida_deeph.engine.errors import InputError
from aiida_deeph.engine.io.structure import write_structure
from aiida_deeph.engine.units import BOHR_TO_ANGSTROM, HARTREE_TO_EV
from tests.engine.nn.molecules import labelled

WATER = Structure(
    ("O", "H", "H"), np.array([[0.0, 0.0, 0.12], [0.0, 0.76, -0.48], [0.1, -0.76, -0.48]]), np.eye(3) * 20, (False,) * 3
)
SMALL = {"basis": "sto-3g", "pseudo": None, "xc": "lda,vwn", "grid_level": 1}


def run(folder: Path, structure: Structure = WATER, **settings: Any) -> tuple[dict[str, Any], RealSpaceHamiltonian]:
    write_structure(folder / "structure.xyz", structure)
    config = PyscfConfig(**{**SMALL, **settings})
    return run_pyscf(config, folder, report=lambda line: None), PyscfReader().read(folder)


def levels(data: RealSpaceHamiltonian) -> np.ndarray:
    H, S = (matrix((0, 0, 0)).toarray() for matrix in (data.hamiltonian_at, data.overlap_at))
    return np.asarray(scipy.linalg.eigh(H, S, eigvals_only=True))


def by_pyscf(structure: Structure, kind: Any, xc: str, **settings: Any) -> Any:
    """The converged mean field of PySCF, by PySCF's own means."""
    atoms = list(zip(structure.symbols, (structure.positions / BOHR_TO_ANGSTROM).tolist(), strict=True))
    field = kind(gto.M(atom=atoms, unit="Bohr", verbose=0, **settings), xc=xc)
    field.conv_tol, field.conv_tol_grad, field.grids.level = 1e-11, 1e-7, 1
    field.kernel()
    return field


@pytest.mark.slow
@pytest.mark.parametrize(("file", "xc"), [("water_pbe", "pbe"), ("water_b3lyp", "b3lyp")])
def test_molecules_of_the_fixtures(tmp_path: Path, shared: Path, file: str, xc: str) -> None:
    expected = labelled(shared / "fixtures/qhnet" / f"{file}.npz", 3)
    _, data = run(tmp_path, expected.structure, xc=xc, basis="def2-svp", grid_level=3)
    assert data.hamiltonian is not None and expected.hamiltonian is not None
    assert np.array_equal(data.hamiltonian.atom_pairs, expected.hamiltonian.atom_pairs)
    assert np.abs(data.hamiltonian.entries - expected.hamiltonian.entries).max() < 2e-5  # eV
    assert np.abs(data.overlap.entries - expected.overlap.entries).max() < 1e-9


def test_levels_bands_and_moments(tmp_path: Path) -> None:
    results, data = run(tmp_path, bands=((0, 0, 0),))
    field = by_pyscf(WATER, dft.RKS, "lda,vwn", basis="sto-3g")
    expected = field.mo_energy * HARTREE_TO_EV
    assert np.abs(levels(data) - expected).max() < 1e-4
    assert np.abs(np.array(results["bands"]["energies"])[0, 0] - expected).max() < 1e-4
    assert (results["homo"], results["lumo"]) == pytest.approx((expected[4], expected[5]), abs=1e-4)
    assert results["energy"] == pytest.approx(field.e_tot * HARTREE_TO_EV, abs=1e-6)
    assert results["dipole"] == pytest.approx(field.dip_moment(verbose=0), abs=1e-4)
    assert data.spin is SpinMode.NONE and data.n_electrons == 10 and len(data.hamiltonian) == 9
    assert not failures(run_gates(data))


def test_ion_with_an_unpaired_electron(tmp_path: Path) -> None:
    results, data = run(tmp_path, charge=1, unpaired_electrons=1)
    field = by_pyscf(WATER, dft.UKS, "lda,vwn", basis="sto-3g", charge=1, spin=1)
    assert data.spin is SpinMode.COLLINEAR and data.n_electrons == 9 and results["total_spin_moment"] == 1
    assert np.abs(levels(data) - np.sort(field.mo_energy.ravel()) * HARTREE_TO_EV).max() < 1e-4
    assert not failures(run_gates(data))


def test_all_pairs_are_kept(tmp_path: Path) -> None:
    """Two waters far apart: blocks between them are zero, and there."""
    places = np.concatenate([WATER.positions, WATER.positions + np.array([30.0, 0, 0])])
    far = Structure(WATER.symbols * 2, places, np.eye(3) * 60, (False,) * 3)
    _, data = run(tmp_path, far)
    assert len(data.hamiltonian) == 36 and "pair_threshold" not in data.metadata


def test_core_of_a_heavy_element_is_that_of_its_basis(tmp_path: Path) -> None:
    iodide = Structure(("I", "H"), np.array([[0.0, 0, 0], [0, 0, 1.61]]), np.eye(3) * 20, (False,) * 3)
    results, _ = run(tmp_path, iodide, basis="def2-svp")
    assert results["n_electrons"] == 26


@pytest.mark.parametrize(("given", "recorded"), [("B3LYP", "b3lypg"), ("b3lyp", "b3lypg"), ("b3lyp5", "b3lyp5")])
def test_which_b3lyp_is_recorded(given: str, recorded: str) -> None:
    assert PyscfConfig(xc=given).xc == recorded


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"charge": 1}, "odd number of electrons.*unpaired_electrons"),
        ({"unpaired_electrons": 1}, "electrons do not pair"),
        ({"basis": "no-such"}, "refuses.*no-such"),
        ({"xc": "nothing"}, "functional unknown"),
        ({"xc": "wb97x-v"}, "functional is not supported"),
        ({"bands": ((0.5, 0, 0),)}, "periodic"),
    ],
)
def test_wrong_inputs(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        run(tmp_path, **change)


def test_settings_of_molecules_are_refused_in_a_cell(tmp_path: Path) -> None:
    periodic = Structure(WATER.symbols, WATER.positions, np.eye(3) * 6)
    with pytest.raises(InputError, match=r"setting of molecules for a periodic structure.*charge"):
        run(tmp_path, periodic, charge=2)
