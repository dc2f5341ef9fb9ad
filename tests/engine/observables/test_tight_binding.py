"""H(R) without overlap: the bands of the mesh, the error between its points, and that other programs read the files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.linalg as la
from click.testing import CliRunner

from aiida_deeph.engine.cli.main import engine
from aiida_deeph.engine.domain.basis import SpinMode
from aiida_deeph.engine.errors import DataError, InputError
from aiida_deeph.engine.linalg.bloch import bloch_matrices
from aiida_deeph.engine.linalg.dense import solve_dense
from aiida_deeph.engine.observables.export import orthogonalise, write_wannier90

Write = Callable[..., str]


@pytest.mark.parametrize("spin", list(SpinMode))
@pytest.mark.parametrize("mesh", [(3, 2, 1), (2, 4, 3)])
def test_bands_on_the_mesh_are_exact(models: Any, spin: SpinMode, mesh: tuple[int, int, int]) -> None:
    data = models.random_crystal(80, spin)
    matrices = bloch_matrices(data)
    channels = orthogonalise(data, mesh)
    assert len(channels) == matrices.n_channels
    k = np.array([1 / mesh[0], 1 / mesh[1], 2 / mesh[2]])
    for channel, part in enumerate(channels):
        exact = solve_dense(*matrices.at(k, channel)).energies
        assert la.eigvalsh(part.at(k)) == pytest.approx(exact, abs=1e-9)
        places = {tuple(cell): n for n, cell in enumerate(part.cells.tolist())}
        for cell, n in places.items():  # H(-R) = H(R)^dagger
            other = places[tuple(-x for x in cell)]
            assert part.matrices[other] == pytest.approx(part.matrices[n].conj().T, abs=1e-9)
        assert (1 / part.degeneracies).sum() == pytest.approx(np.prod(mesh))


def test_error_falls_with_the_mesh_and_is_what_is_stated(models: Any) -> None:
    data = models.graphene()
    matrices = bloch_matrices(data)
    errors = []
    for n in (3, 6, 12):
        (part,) = orthogonalise(data, (n, n, 1))
        found = [
            np.abs(la.eigvalsh(part.at(k)) - solve_dense(*matrices.at(k)).energies).max()
            for k in np.array([[0.5, 0.5, 0], [0.5, 0, 0], [0, 0.5, 0]]) / n
        ]
        assert part.error == pytest.approx(max(found), rel=1e-6)
        assert part.error_below <= part.error
        errors.append(part.error)
    assert errors[0] > 10 * errors[1] > 100 * errors[2]
    assert errors[2] < 1e-4


def test_another_program_reads_the_files(models: Any, tmp_path: Path) -> None:
    sisl = pytest.importorskip("sisl")
    data = models.random_crystal(81)
    (part,) = orthogonalise(data, (3, 3, 2))
    ((path, _),) = write_wannier90(tmp_path / "x", data, (part,))
    assert path.read_text().startswith("Loewdin-orthogonalised")
    read = sisl.get_sile(tmp_path / "x.win").read_hamiltonian(cutoff=0.0)
    assert read.orthogonal and read.no == part.matrices.shape[1]
    for k in ([0, 0, 0], [1 / 3, 1 / 3, 0.5], [0.1, -0.2, 0.3]):
        assert read.eigh(k) == pytest.approx(la.eigvalsh(part.at(np.array(k))), abs=1e-6)


def test_command_writes_the_channels_and_says_the_error(models: Any, folder: Write, tmp_path: Path) -> None:
    where = folder(models.random_crystal(82, SpinMode.COLLINEAR))
    arguments = ["tight-binding", where, "--mesh", "2", "1", "1", "--output", str(tmp_path / "fe")]
    run = CliRunner().invoke(engine, arguments)
    assert run.exit_code == 0, run.output
    assert run.output.count("bands differ by") == 2
    names = {f"fe_{spin}{suffix}" for spin in ("up", "down") for suffix in ("_hr.dat", "_centres.xyz", ".win")}
    assert {path.name for path in tmp_path.glob("fe*")} == names


def test_wrong_use(models: Any, folder: Write, tmp_path: Path) -> None:
    data = models.graphene()
    with pytest.raises(InputError, match="outside the dimensionality"):
        orthogonalise(data, (2, 2, 2))
    with pytest.raises(DataError, match="not positive definite"):
        orthogonalise(models.replace(data, overlap=data.overlap * -1.0), (1, 1, 1))
    arguments = ["tight-binding", folder(data), "--mesh", "1", "1", "1", "--output", str(tmp_path / "no" / "x")]
    run = CliRunner().invoke(engine, arguments)
    assert isinstance(run.exception, InputError)
