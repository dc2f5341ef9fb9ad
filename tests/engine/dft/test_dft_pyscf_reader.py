"""PySCF: H(k) on the mesh -> H(R), against PySCF's own bands and against integrals."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg

pytest.importorskip("pyscf")

from aiida_deeph.engine.dft.pyscf.code import MATRICES_FILE, RESULTS_FILE
from aiida_deeph.engine.dft.pyscf.config import PyscfConfig
from aiida_deeph.engine.dft.pyscf.crystal import build_cell
from aiida_deeph.engine.dft.pyscf.output import Matrices, read_matrices, shells_of, write_matrices
from aiida_deeph.engine.dft.pyscf.reader import PyscfReader
from aiida_deeph.engine.dft.pyscf.runner import run_pyscf
from aiida_deeph.engine.domain.structure import Structure
from aiida_deeph.engine.errors import DataError, InputError
from aiida_deeph.engine.io.structure import write_structure
from aiida_deeph.engine.overlap.basis import load_basis
from aiida_deeph.engine.overlap.gaussian import overlap_gaussian
from aiida_deeph.engine.units import HARTREE_TO_EV

OFF_MESH = ((0.031, 0.0, 0.0), (0.27, 0.0, 0.0), (0.5, 0.0, 0.0))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, zigzag: Structure) -> Path:
    """A converged run with bands off its mesh."""
    folder = tmp_path_factory.mktemp("pyscf")
    write_structure(folder / "structure.xyz", zigzag)
    lines: list[str] = []
    run_pyscf(PyscfConfig(kmesh=(9, 1, 1), ke_cutoff=25.0, bands=OFF_MESH), folder, report=lines.append)
    assert any("cycle   2" in line for line in lines)
    return folder


def test_results(run: Path) -> None:
    results = json.loads((run / RESULTS_FILE).read_text())
    assert results["converged"] and results["n_electrons"] == 10 and results["energy_units"] == "eV"
    assert results["homo"] < results["fermi_energy"] < results["lumo"]
    assert results["orbital_gradient"] < 1e-6
    assert np.shape(results["bands"]["energies"]) == (3, 10)


def test_bands_off_the_mesh(run: Path) -> None:
    data = PyscfReader().read(run)
    bands = json.loads((run / RESULTS_FILE).read_text())["bands"]
    for k, expected in zip(bands["kpoints"], bands["energies"], strict=True):
        found = scipy.linalg.eigh(data.hamiltonian_at(k).toarray(), data.overlap_at(k).toarray(), eigvals_only=True)
        assert np.abs(found - expected).max() < 1e-6
    assert data.metadata["range_residual_eV"] < 1e-3  # C-H and H-H at 8 Angstrom, across the vacuum
    assert data.fermi_energy == pytest.approx(json.loads((run / RESULTS_FILE).read_text())["fermi_energy"])


def test_real_space_has_no_images_across_open_directions(run: Path) -> None:
    pairs = PyscfReader().read(run).hamiltonian.atom_pairs
    assert not pairs[:, 1:3].any() and pairs[:, 0].max() == 4


def _kinetic_run(folder: Path, structure: Structure, kmesh: tuple[int, int, int], basis: str) -> None:
    """Files as of a run whose H is the kinetic energy: known integrals, no SCF."""
    config = PyscfConfig(kmesh=kmesh, basis=basis)
    cell = build_cell(structure, config)
    cell.precision = 1e-12
    cell.build(False, False, verbose=0)
    fractional = np.stack(np.meshgrid(*(np.arange(n) / n for n in kmesh), indexing="ij"), -1).reshape(-1, 3)
    kpts = cell.get_abs_kpts(fractional)
    T, S = (np.array(cell.pbc_intor(name, hermi=1, kpts=kpts)) for name in ("int1e_kin", "int1e_ovlp"))
    results = {"converged": True, "n_orbitals": int(cell.nao), "settings": config.model_dump(mode="json")}
    write_matrices(folder, structure, Matrices(shells_of(cell), fractional, [T * HARTREE_TO_EV], S), results)


def test_direction_of_cells_and_order_of_orbitals(tmp_path: Path) -> None:
    """s, p and d on two elements in a skew cell: S(R) equals integrals, which see a wrong sign of R or order of m."""
    cell = np.array([[9.0, 0.3, 0.0], [-0.5, 10.0, 0.2], [0.1, 0.0, 11.0]])
    structure = Structure(("C", "O", "C"), np.array([[0.1, 0.2, 0.3], [8.2, 9.5, 1.0], [1.1, 9.0, 10.5]]), cell)
    _kinetic_run(tmp_path, structure, (3, 3, 3), "gth-dzvp")
    data = PyscfReader(threshold=1e-9).read(tmp_path)
    assert data.basis.shells == {"C": (0, 0, 1, 1, 2), "O": (0, 0, 1, 1, 2)}
    basis = load_basis("pyscf:gth-dzvp", structure.elements, tmp_path)
    orbital_basis, expected = overlap_gaussian(structure, basis, data.overlap.atom_pairs)
    assert orbital_basis.shells == data.basis.shells
    assert np.abs(expected.entries - data.overlap.entries).max() < 1e-9
    # The test can fail: the reversed R is far off.
    reverse = data.overlap.atom_pairs * [-1, -1, -1, 1, 1]
    assert np.abs(overlap_gaussian(structure, basis, reverse)[1].entries - data.overlap.entries).max() > 0.1


@pytest.mark.parametrize("kmesh", [(4, 2, 1), (3, 1, 1)])
def test_mesh_points_are_exact_whatever_the_mesh(
    tmp_path: Path, zigzag: Structure, kmesh: tuple[int, int, int]
) -> None:
    """Pairs on the boundary of the supercell share their weight: H(k) of the mesh comes back, H(R) is Hermitian."""
    structure = replace(zigzag, pbc=(True, True, True))
    _kinetic_run(tmp_path, structure, kmesh, "gth-szv")
    data = PyscfReader(threshold=1e-12).read(tmp_path)
    output = read_matrices(tmp_path)
    for k, H, S in zip(output.kpoints, output.hamiltonian[0], output.overlap, strict=True):
        found = scipy.linalg.eigvalsh(data.hamiltonian_at(k).toarray(), data.overlap_at(k).toarray())
        assert np.abs(found - scipy.linalg.eigvalsh(H, S)).max() < 1e-8
    assert data.hamiltonian.hermiticity_error() < 1e-10
    assert data.metadata["range_residual_eV"] > 1e-3  # far too few k-points


def test_range_residual_falls_with_the_mesh(tmp_path: Path, zigzag: Structure) -> None:
    wide = replace(zigzag, cell=np.diag([2.48, 20.0, 20.0]))
    residuals = []
    for n in (3, 5, 9):
        (tmp_path / str(n)).mkdir()
        _kinetic_run(tmp_path / str(n), wide, (n, 1, 1), "gth-szv")
        residuals.append(PyscfReader().read(tmp_path / str(n)).metadata["range_residual_eV"])
    assert residuals[0] > 1e-1 > residuals[1] > 1e-3 > 1e-6 > residuals[2]


def test_unconverged_run_is_written_and_refused(tmp_path: Path, zigzag: Structure) -> None:
    write_structure(tmp_path / "structure.xyz", zigzag)
    results = run_pyscf(PyscfConfig(ke_cutoff=10.0, max_cycle=2), tmp_path, report=lambda line: None)
    assert results["converged"] is False and json.loads((tmp_path / RESULTS_FILE).read_text())["scf_cycles"] == 2
    with pytest.raises(DataError, match=r"did not converge.*max_cycle"):
        PyscfReader().read(tmp_path)


def test_damaged_files(tmp_path: Path, run: Path) -> None:
    with pytest.raises(InputError, match="no PySCF run"):
        PyscfReader().read(tmp_path)
    content = (run / MATRICES_FILE).read_bytes()
    (tmp_path / MATRICES_FILE).write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match="damaged"):
        PyscfReader().read(tmp_path)
