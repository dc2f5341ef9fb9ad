"""FHI-aims: a known Hamiltonian written in the documented format of its files, and read again.

No run of FHI-aims is at hand that could be kept here; order, signs and the sense of R were found on example files of
others (see the README).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from aiida_deeph.engine.dft.aims.reader import AimsReader
from aiida_deeph.engine.domain.basis import SpinMode
from aiida_deeph.engine.domain.blocksparse import BlockSparseMatrix
from aiida_deeph.engine.domain.checks import run_gates
from aiida_deeph.engine.domain.gate import failures
from aiida_deeph.engine.domain.hamiltonian import RealSpaceHamiltonian
from aiida_deeph.engine.errors import DataError, InputError
from aiida_deeph.engine.preprocess.source import read_source
from tests.engine.dft.aims_files import known_hamiltonian, main_output, write_run


@pytest.fixture
def known() -> RealSpaceHamiltonian:
    """See there."""
    return known_hamiltonian()


def assert_same(matrix: BlockSparseMatrix, known: BlockSparseMatrix, sizes: np.ndarray) -> None:
    """The same elements; a pair that only one of them has is zero."""
    other = known.aligned_to(matrix.atom_pairs, sizes)
    assert np.abs(matrix.entries - other.entries).max() < 1e-12
    kept = known.atom_pairs[known.norms() > 0]
    assert {tuple(pair) for pair in kept.tolist()} <= {tuple(pair) for pair in matrix.atom_pairs.tolist()}


@pytest.mark.parametrize("hdf5", [False, True])
def test_known_hamiltonian(known, tmp_path, hdf5):
    data = AimsReader().read(write_run(tmp_path / "run", known, hdf5=hdf5))
    np.testing.assert_allclose(data.structure.positions, known.structure.positions, atol=1e-10)
    assert data.basis == known.basis and data.spin is SpinMode.NONE
    assert not failures(run_gates(data))
    assert_same(data.overlap, known.overlap, known.orbitals_per_atom)
    assert_same(data.hamiltonian, known.hamiltonian, known.orbitals_per_atom)
    assert data.metadata["settings"]["functions"]["S"] == ["atomic 2p", "hydro 4f"]


def test_collinear_spins(known, tmp_path):
    down = known.hamiltonian.with_entries(2.0 * known.hamiltonian.entries + 0.0)
    data = AimsReader().read(write_run(tmp_path / "run", known, down))
    assert data.spin is SpinMode.COLLINEAR
    for R, i, j in [
        ((0, 0, 0), 0, 0),
        (tuple(known.hamiltonian.atom_pairs[3, :3]), *known.hamiltonian.atom_pairs[3, 3:]),
    ]:
        spinless, block = known.hamiltonian.block(R, i, j), data.hamiltonian.block(R, i, j)
        n, m = spinless.shape
        np.testing.assert_allclose(block[:n, :m], spinless, atol=1e-12)
        np.testing.assert_allclose(block[n:, m:], 2 * spinless, atol=1e-12)
        assert not block[:n, m:].any() and not block[n:, :m].any()


def test_main_output(known, tmp_path):
    run = write_run(tmp_path / "run", known)
    text = main_output(
        known.structure,
        "  The structure contains        3 atoms,  and a total of         74.000 electrons.",
        "  | Chemical potential (Fermi level):    -5.25000000 eV",
        "  | Chemical Potential                          :    -5.12500000 eV",
        "  | Total energy uncorrected      :         -0.132470123456789E+06 eV",
    )
    (run / "aims.out").write_text(text)
    data = read_source("aims", run)
    assert data.fermi_energy == -5.125 and data.n_electrons == 74.0
    assert data.metadata["version"] == "240920.1" and data.metadata["converged"] is True
    assert data.metadata["energy_eV"] == pytest.approx(-132470.123456789)
    assert {name: data.metadata["settings"][name] for name in ("xc", "k_grid")} == {"xc": "pbe", "k_grid": [5, 5, 1]}
    (run / "aims.out").write_text(text.replace("  Self-consistency cycle converged.", ""))
    with pytest.raises(DataError, match="did not converge"):
        AimsReader().read(run)


def test_geometry_is_what_the_program_ran(known, tmp_path):
    run = write_run(tmp_path / "run", known)
    text = main_output(known.structure)
    (run / "aims.out").write_text(text + "  Updated atomic structure:\n  atom 0.0 0.0 0.0 S\n")
    with pytest.raises(InputError, match="run moved its atoms"):
        AimsReader().read(run)
    (run / "aims.out").write_text(text.replace("Input geometry:", "Input:"))
    with pytest.raises(DataError, match=r"geometry of the run is not known.*aims\.out"):
        AimsReader().read(run)
    (run / "aims.out").write_text(text)
    path = run / "geometry.in"
    path.write_text(path.read_text().replace("lattice_vector 3.2", "lattice_vector 3.3"))
    with pytest.raises(DataError, match=r"structure is not that of the run.*aims\.out"):
        AimsReader().read(run)
    (run / "aims.out").unlink()
    with pytest.raises(InputError, match="main output is missing"):
        AimsReader().read(run)


def cut(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def lose(path: Path, line: int, *others: str) -> None:
    """A line of a file, and of others, is not there."""
    for one in (path, *(path.with_name(name) for name in others)):
        lines = one.read_text().splitlines(keepends=True)
        one.write_text("".join(lines[:line] + lines[line + 1 :]))


def shorten(path: Path, lines: int) -> None:
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-lines]))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda run: (run / "rs_overlap.out").unlink(), InputError, r"expected rs_overlap.out"),
        (lambda run: (run / "rs_hamiltonian.out").unlink(), InputError, r"rs_hamiltonian_up.out"),
        (lambda run: (run / "basis-indices.out").unlink(), InputError, r"expected basis-indices.out"),
        (lambda run: cut(run / "rs_indices.out", "n_basis", "basis"), InputError, "not the indices"),
        (lambda run: cut(run / "rs_indices.out", "column_index", "x\ncolumn_index"), DataError, "cannot be read"),
        (lambda run: shorten(run / "rs_indices.out", 3), DataError, "cut off or damaged"),
        (lambda run: shorten(run / "rs_overlap.out", 2), DataError, "cut off or of another run"),
        (lambda run: cut(run / "rs_overlap.out", "E+00", "E+0x"), DataError, "cannot be read"),
        (lambda run: lose(run / "rs_overlap.out", 1), DataError, "cut off or of another run"),
        (lambda run: lose(run / "rs_hamiltonian.out", 1), DataError, "cut off or of another run"),
        (lambda run: lose(run / "rs_hamiltonian.out", 1, "rs_overlap.out"), DataError, "functions are not normalised"),
        (lambda run: lose(run / "rs_indices.out", 300), DataError, "cut off or damaged"),
        (lambda run: lose(run / "basis-indices.out", 9), DataError, "basis-indices.out is damaged"),
        (lambda run: cut(run / "rs_hamiltonian.out", "E-02\n", "E+999\n"), DataError, "found NaN or infinity"),
        (lambda run: cut(run / "geometry.in", "lattice_vector", "# "), DataError, "2 lattice vectors"),
        (lambda run: cut(run / "geometry.in", " Mo", " Qq"), DataError, "species Qq"),
        (lambda run: cut(run / "geometry.in", "atom ", "empty "), InputError, "atoms without nucleus|other runs"),
        (lambda run: cut(run / "basis-indices.out", " -1\n", "  2\n"), DataError, "do not form shells"),
    ],
)
def test_what_is_refused(known, tmp_path, change, error, message):
    run = write_run(tmp_path / "run", known)
    change(run)
    with pytest.raises(error, match=message):
        AimsReader().read(run)
