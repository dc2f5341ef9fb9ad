"""PySCF: orbitals and potentials on the grid, and refused inputs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

pytest.importorskip("pyscf")

from pyscf.pbc import dft, gto
from pyscf.pbc.dft.multigrid import MultiGridNumInt

from aiida_deeph.engine.dft.pyscf.command import command
from aiida_deeph.engine.dft.pyscf.config import PyscfConfig
from aiida_deeph.engine.dft.pyscf.grid import GridNumInt, grid_mesh
from aiida_deeph.engine.dft.pyscf.orbitals import bloch_orbitals
from aiida_deeph.engine.dft.pyscf.reader import PyscfReader
from aiida_deeph.engine.dft.pyscf.runner import run_pyscf
from aiida_deeph.engine.domain.structure import Structure
from aiida_deeph.engine.errors import InputError
from aiida_deeph.engine.io.structure import write_structure

K = np.array([[0.0, 0.0, 0.0], [0.2, 0.0, 0.0], [0.4, 0.3, 0.1]])


def make_cell(lattice: np.ndarray, mesh: tuple[int, int, int], basis: str = "gth-dzvp") -> gto.Cell:
    cell = gto.Cell()
    cell.atom = [("C", (0.3, 8.9, 0.2)), ("H", (1.2, 0.1, 6.0)), ("O", (3.0, 4.0, 5.0)), ("H", (3.2, 5.0, 4.7))]
    cell.unit, cell.a, cell.mesh = "Bohr", lattice, mesh
    cell.basis, cell.pseudo, cell.precision, cell.verbose = basis, "gth-pbe", 1e-12, 0
    return cell.build(False, False)


@pytest.mark.parametrize("skew", [0.0, 0.4])
def test_bloch_orbitals(skew: float) -> None:
    """In a rectangular cell by outer products, in any other by PySCF: the same functions, d orbitals included."""
    shape = (9, 15, 11)
    cell = make_cell(np.array([[6.0, 0.0, 0.0], [skew, 9.0, 0.0], [0.0, 0.0, 8.0]]), shape)
    expected = cell.pbc_eval_gto(
        "GTOval_sph", cell.get_uniform_grids(shape, wrap_around=False), kpts=cell.get_abs_kpts(K)
    )
    for k, found, phi in zip(K, bloch_orbitals(cell, shape, K), expected, strict=True):
        n = cell.nao
        assert len(found) == (2 * n if k.any() else n)
        complex_values = found[:n] + 1j * found[n:] if k.any() else found
        assert np.abs(complex_values - phi.T).max() < 1e-12


def random_density(cell: gto.Cell, kpts: np.ndarray, seed: int) -> np.ndarray:
    """Density matrices with D(-k) = D(k)*."""
    rng = np.random.default_rng(seed)
    result = np.empty((len(kpts), cell.nao, cell.nao), dtype=complex)
    for n in range(len(kpts)):
        C = rng.standard_normal((cell.nao, 3)) + 1j * rng.standard_normal((cell.nao, 3)) * (n > 0)
        partner = (len(kpts) - n) % len(kpts)
        result[n] = 0.1 * C @ C.conj().T if partner >= n else result[partner].conj()
    return result


def test_lda_potential_equals_pyscf_on_the_same_grid() -> None:
    cell = make_cell(np.diag([6.0, 9.0, 8.0]), (21, 27, 25), "gth-szv")
    kpts = cell.make_kpts([3, 1, 1])
    D = random_density(cell, kpts, 0)
    field = dft.KRKS(cell, kpts, xc="lda,vwn")
    expected = field.get_veff(cell, D)
    mine = dft.KRKS(cell, kpts, xc="lda,vwn")
    mine._numint = GridNumInt(cell)
    mine._numint.keep(kpts)
    found = mine.get_veff(cell, D)
    assert np.abs(np.asarray(found) - np.asarray(expected)).max() < 1e-9
    assert found.exc == pytest.approx(expected.exc, abs=1e-9) and found.ecoul == pytest.approx(expected.ecoul, abs=1e-9)


def test_pseudopotential_equals_multigrid() -> None:
    cell = make_cell(np.diag([6.0, 9.0, 8.0]), (35, 51, 45), "gth-szv")
    kpts = cell.make_kpts([2, 1, 1])
    assert np.abs(GridNumInt(cell).get_pp(kpts) - MultiGridNumInt(cell).get_pp(kpts)).max() < 1e-7


def test_gga_potential_is_the_derivative_of_the_energy() -> None:
    cell = make_cell(np.diag([6.0, 9.0, 8.0]), (21, 27, 25), "gth-szv")
    kpts = cell.make_kpts([3, 1, 1])
    integration = GridNumInt(cell)
    integration.keep(kpts)
    D, change = random_density(cell, kpts, 0), random_density(cell, kpts, 1)

    def energy(step: float) -> float:
        v = integration.nr_rks(cell, None, "pbe", D + step * change, kpts=kpts)[2]
        return float(v.ecoul + v.exc)

    step = 1e-3
    slope = (8 * (energy(step) - energy(-step)) - (energy(2 * step) - energy(-2 * step))) / (12 * step)
    v = integration.nr_rks(cell, None, "pbe", D, kpts=kpts)[2]
    assert np.einsum("kij,kji->", np.asarray(v), change).real / len(kpts) == pytest.approx(slope, rel=1e-6)


def test_k_and_minus_k_share_their_orbitals() -> None:
    cell = make_cell(np.diag([6.0, 9.0, 8.0]), (9, 9, 9), "gth-szv")
    kpts = cell.make_kpts([5, 3, 1])
    integration = GridNumInt(cell)
    integration.keep(kpts)
    assert len(integration._remember) == 8


def test_mesh_is_odd_and_reaches_the_cutoff() -> None:
    lattice = np.diag([9.3, 18.9, 16.1])
    mesh = grid_mesh(lattice, 60.0)
    assert all(n % 2 for n in mesh)
    assert ((np.pi * np.array(mesh) / np.diag(lattice)) ** 2 / 2 >= 60.0).all()


def test_command(tmp_path: Path, zigzag: Structure, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.setenv(name, "1")
    write_structure(tmp_path / "structure.xyz", zigzag)
    (tmp_path / "config.json").write_text(json.dumps({"ke_cutoff": 15.0, "kmesh": [3, 1, 1], "smearing": 0.1}))
    result = CliRunner().invoke(command, [str(tmp_path / "config.json")], catch_exceptions=False)
    assert result.exit_code == 0 and "converged in" in result.output
    assert PyscfReader().read(tmp_path).n_electrons == 10


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"basis": "no-such-basis"}, "refuses.*no-such-basis"),
        ({"xc": "pbe0"}, "functional is not supported"),
        ({"xc": "nothing"}, "functional"),
        ({"structure": "absent.xyz"}, "absent.xyz"),
    ],
)
def test_wrong_inputs(tmp_path: Path, zigzag: Structure, change: dict[str, str], message: str) -> None:
    write_structure(tmp_path / "structure.xyz", zigzag)
    with pytest.raises(InputError, match=message):
        run_pyscf(PyscfConfig(ke_cutoff=10.0, **change), tmp_path)


def test_odd_number_of_electrons(tmp_path: Path) -> None:
    write_structure(tmp_path / "structure.xyz", Structure(("H",), np.zeros((1, 3)), np.eye(3) * 5))
    with pytest.raises(InputError, match="odd number of electrons"):
        run_pyscf(PyscfConfig(ke_cutoff=10.0), tmp_path)


def test_large_cells_use_multigrid(tmp_path: Path, zigzag: Structure, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the orbitals do not fit in memory PySCF's multigrid integration takes over; the results agree."""
    write_structure(tmp_path / "structure.xyz", zigzag)
    config = PyscfConfig(ke_cutoff=40.0, bands=((0.1, 0.0, 0.0),))
    mine = run_pyscf(config, tmp_path, report=lambda line: None)
    monkeypatch.setattr("aiida_deeph.engine.dft.pyscf.crystal.ORBITAL_MEMORY", 0.0)
    other = run_pyscf(config, tmp_path, report=lambda line: None)
    assert other["converged"] and mine["energy"] == pytest.approx(other["energy"], abs=0.05)
    assert mine["bands"]["energies"][0] == pytest.approx(other["bands"]["energies"][0], abs=0.02)


def test_vacuum_level_hardly_depends_on_the_cell(tmp_path: Path) -> None:
    levels = {}
    for size in (8.0, 12.0):
        positions = np.array([[0.1, size / 2, size / 2], [1.36, size / 2, size / 2]])
        chain = Structure(("C", "C"), positions, np.diag([2.56, size, size]), (True, False, False))
        write_structure(tmp_path / "structure.xyz", chain)
        for of_vacuum in (False, True):
            config = PyscfConfig(ke_cutoff=25.0, kmesh=(5, 1, 1), smearing=0.1, vacuum_level=of_vacuum)
            level = run_pyscf(config, tmp_path, lambda line: None)["fermi_energy"]
            block = PyscfReader().read(tmp_path).hamiltonian.block((0, 0, 0), 0, 0)
            levels[size, of_vacuum] = np.array([level, block[0, 0]])
    assert np.abs(levels[8.0, False] - levels[12.0, False]).min() > 0.5, "the mean potential does"
    assert np.abs(levels[8.0, True] - levels[12.0, True]).max() < 0.1


def test_no_vacuum_level_where_there_is_no_vacuum(tmp_path: Path) -> None:
    dense = Structure(("H", "H"), np.array([[0.0, 0, 0], [0.8, 0, 0]]), np.diag([3.0, 4.0, 4.0]), (True, False, False))
    write_structure(tmp_path / "structure.xyz", dense)
    with pytest.raises(InputError, match="no vacuum level"):
        run_pyscf(PyscfConfig(vacuum_level=True, ke_cutoff=15.0), tmp_path, lambda line: None)
