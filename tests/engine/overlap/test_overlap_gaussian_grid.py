"""Wavefunctions of Gaussian bases on a grid: their integrals are libcint's overlaps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase.io.cube import read_cube
from click.testing import CliRunner

from aiida_deeph.engine.cli.main import engine
from aiida_deeph.engine.domain.hamiltonian import RealSpaceHamiltonian
from aiida_deeph.engine.domain.neighbours import pairs_within
from aiida_deeph.engine.domain.structure import Structure
from aiida_deeph.engine.io.deeph import write_deeph
from aiida_deeph.engine.linalg.bloch import bloch_matrices
from aiida_deeph.engine.observables.bands import Bands, BandsConfig
from aiida_deeph.engine.observables.cube import on_grid
from aiida_deeph.engine.orbitals.gaussian import GaussianBasis, as_radial
from aiida_deeph.engine.overlap.basis import load_basis
from aiida_deeph.engine.overlap.gaussian import overlap_gaussian

pytest.importorskip("pyscf", reason="integrals of Gaussians need PySCF's libcint")


@pytest.fixture
def basis() -> GaussianBasis:
    """Two s and p shells and d on carbon, s and p on hydrogen."""
    return load_basis("pyscf:gth-dzvp", ("C", "H"), Path())


@pytest.fixture
def data(basis: GaussianBasis) -> RealSpaceHamiltonian:
    """Some H on the overlap of these orbitals, C-H along no axis."""
    positions = np.array([[5.1, 4.2, 6.3], [5.7, 5.0, 5.8]])
    structure = Structure(("C", "H"), positions, np.diag([10.0, 11.0, 12.0]), (False, False, False))
    orbital_basis, overlap = overlap_gaussian(structure, basis, pairs_within(structure, 9.0))
    rows, columns = overlap.entry_positions()
    h = overlap.with_entries(overlap.entries * (1.0 + 0.1 * (rows + columns))).hermitian_part()
    return RealSpaceHamiltonian(structure, orbital_basis, hamiltonian=h, overlap=overlap, n_electrons=4.0)


def test_integrals_are_overlaps(basis: GaussianBasis, data: RealSpaceHamiltonian) -> None:
    s = bloch_matrices(data).at((0, 0, 0))[1].toarray()
    c = np.random.default_rng(5).standard_normal((len(s), 3))
    psi = [on_grid(as_radial(basis), data.structure, column, np.zeros(3), 0.12).real.ravel() for column in c.T]
    volume = abs(np.linalg.det(data.structure.cell)) / psi[0].size
    expected = c.T @ s @ c
    found = np.array([[a @ b * volume for b in psi] for a in psi])
    # The boundary of the cell cuts the tails off.
    assert found == pytest.approx(expected, abs=2e-4 * np.abs(expected).max())


def test_cube_file_from_bands(data: RealSpaceHamiltonian, tmp_path: Path) -> None:
    write_deeph(tmp_path / "deeph", data)
    outputs = {"output": str(tmp_path / "b.json"), "wavefunctions_output": str(tmp_path / "w.h5")}
    Bands.run(BandsConfig(folder=str(tmp_path / "deeph"), kpoints=((0, 0, 0),), wavefunctions=(0,), **outputs))
    arguments = ["cube", str(tmp_path / "w.h5"), "--basis", "pyscf:gth-dzvp", "--band", "1", "--part", "real"]
    run = CliRunner().invoke(engine, [*arguments, "--output", str(tmp_path / "state.cube")])
    assert run.exit_code == 0, run.output
    assert float(run.output.split()[-1]) == pytest.approx(1.0, abs=2e-3)
    with (tmp_path / "state.cube").open() as file:
        found = read_cube(file)
    assert (found["data"] ** 2).mean() * found["atoms"].get_volume() == pytest.approx(1.0, abs=2e-3)
    assert found["atoms"].symbols.get_chemical_formula() == "CH"
