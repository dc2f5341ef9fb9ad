"""Wavefunctions on a grid: their integrals are those of the overlap matrix."""

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
from aiida_deeph.engine.errors import DataError, InputError
from aiida_deeph.engine.io.deeph import write_deeph
from aiida_deeph.engine.linalg.bloch import bloch_matrices
from aiida_deeph.engine.observables.bands import Bands, BandsConfig
from aiida_deeph.engine.observables.cube import on_grid, write_cube
from aiida_deeph.engine.orbitals.radial import RadialBasis
from aiida_deeph.engine.overlap.basis import load_numeric
from aiida_deeph.engine.overlap.radial import NumericOverlap

ORBITALS = {"C": "C3.5-s2p2d1", "H": "H4.0-s1p1"}


@pytest.fixture
def basis(pao_folder: Path) -> RadialBasis:
    return load_numeric(f"openmx:{pao_folder}", ORBITALS, ("C", "H"), Path())


@pytest.fixture
def data(basis: RadialBasis) -> RealSpaceHamiltonian:
    """Some H on the overlap of these orbitals."""
    cell = np.array([[3.1, 0.2, 0.0], [-0.7, 3.6, 0.1], [0.3, 0.0, 4.2]])
    positions = np.array([[1.4, 0.9, -0.4], [2.0, 5.0, 1.1]])
    structure = Structure(("C", "H"), positions, cell)
    overlap = NumericOverlap(basis).overlap(structure, pairs_within(structure, 4.1))
    rows, columns = overlap.entry_positions()
    h = overlap.with_entries(overlap.entries * (1.0 + 0.1 * (rows + columns))).hermitian_part()
    return RealSpaceHamiltonian(structure, basis.orbital_basis, hamiltonian=h, overlap=overlap, n_electrons=5.0)


@pytest.mark.parametrize("k", [(0.0, 0.0, 0.0), (0.2, -0.1, 0.5)])
def test_integrals_are_overlaps(basis: RadialBasis, data: RealSpaceHamiltonian, k: tuple[float, ...]) -> None:
    s = bloch_matrices(data).at(k)[1].toarray()
    rng = np.random.default_rng(4)
    c = rng.standard_normal((len(s), 2)) + 1j * rng.standard_normal((len(s), 2))
    psi = [on_grid(basis, data.structure, column, np.array(k), 0.12).ravel() for column in c.T]
    volume = abs(np.linalg.det(data.structure.cell)) / psi[0].size
    expected = c.conj().T @ s @ c
    found = np.array([[np.vdot(a, b) * volume for b in psi] for a in psi])
    assert found == pytest.approx(expected, abs=2e-3 * np.abs(expected).max())


def test_a_molecule_ends_at_its_cell(basis: RadialBasis) -> None:
    cell, position = np.diag([9.0, 9.0, 9.0]), np.array([[0.0, 0.0, 4.5]])
    open_face, closed = (
        on_grid(basis, Structure(("H",), position, cell, (p, True, True)), np.eye(4)[0], np.zeros(3), 0.3).real
        for p in (False, True)
    )
    assert np.abs(closed[15:]).max() > 0.1
    assert np.array_equal(open_face[:15], closed[:15])
    assert not open_face[15:].any()
    assert open_face[0, 29] == pytest.approx(open_face[0, 1])  # the image across the periodic face is there


def test_cube_file_from_bands(basis: RadialBasis, data: RealSpaceHamiltonian, pao_folder: Path, tmp_path: Path) -> None:
    write_deeph(tmp_path / "deeph", data)
    settings = {"kpoints": [(0.0, 0.0, 0.0), (0.3, 0.1, 0.0)], "wavefunctions": (0, 1), "fermi_mesh": (1, 1, 1)}
    outputs = {"output": str(tmp_path / "b.json"), "wavefunctions_output": str(tmp_path / "w.h5")}
    Bands.run(BandsConfig(folder=str(tmp_path / "deeph"), n_electrons=4, **settings, **outputs))
    arguments = ["cube", str(tmp_path / "w.h5"), "--basis", f"openmx:{pao_folder}", "--band", "2", "--kpoint", "1"]
    arguments += [f"--orbitals={element}={name}" for element, name in ORBITALS.items()]
    run = CliRunner().invoke(engine, [*arguments, "--output", str(tmp_path / "state.cube")])
    assert run.exit_code == 0, run.output
    with (tmp_path / "state.cube").open() as file:
        found = read_cube(file)
    assert found["data"].mean() * found["atoms"].get_volume() == pytest.approx(1.0, abs=5e-3)
    assert found["atoms"].symbols.get_chemical_formula() == "CH"
    with pytest.raises(InputError, match="no such state"):
        write_cube(tmp_path / "x.cube", tmp_path / "w.h5", basis, band=7)
    other = load_numeric(f"openmx:{pao_folder}", {**ORBITALS, "H": "H4.0-s1"}, ("C", "H"), Path())
    with pytest.raises(InputError, match="another basis"):
        write_cube(tmp_path / "x.cube", tmp_path / "w.h5", other, band=1)
    with pytest.raises(DataError, match="cannot be read"):
        write_cube(tmp_path / "x.cube", tmp_path / "b.json", basis, band=1)
    assert not (tmp_path / "x.cube").exists()
