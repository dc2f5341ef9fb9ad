"""ABACUS output -> H(R), S(R)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aiida_deeph.engine.dft.abacus.code import RECORD
from aiida_deeph.engine.dft.abacus.csr import AbacusMatrix, read_csr
from aiida_deeph.engine.dft.abacus.output import SCF_LOG, AbacusOutput, find_output, read_output
from aiida_deeph.engine.dft.abacus.settings import find_beside, settings_of_run
from aiida_deeph.engine.dft.abacus.stru import Stru, element_of, read_stru
from aiida_deeph.engine.dft.base import HamiltonianReader
from aiida_deeph.engine.dft.orbital_entries import entry_places, united_pairs
from aiida_deeph.engine.domain.basis import OrbitalBasis, SpinMode
from aiida_deeph.engine.domain.blocksparse import BlockSparseMatrix
from aiida_deeph.engine.domain.channels import joined
from aiida_deeph.engine.domain.hamiltonian import RealSpaceHamiltonian
from aiida_deeph.engine.domain.moments import Moments
from aiida_deeph.engine.domain.pairs import unwrapped
from aiida_deeph.engine.domain.structure import Structure
from aiida_deeph.engine.domain.transforms import orbital_map
from aiida_deeph.engine.errors import DataError, InputError
from aiida_deeph.engine.units import BOHR_TO_ANGSTROM

SPINS = {1: SpinMode.NONE, 2: SpinMode.COLLINEAR, 4: SpinMode.NONCOLLINEAR}
# The log has six digits of the cell.
CELL_DIGITS = 1e-5
# Ten digits of the positions, lattice vectors; where STRU has them in Angstrom, those of a constant count.
POSITION_DIGITS = 5e-6
# Names up to release 3.10, then later ones.
HAMILTONIANS = (("data-HR-sparse_SPIN0.csr", "data-HR-sparse_SPIN1.csr"), ("hrs1_nao.csr", "hrs2_nao.csr"))
OVERLAPS = ("data-SR-sparse_SPIN0.csr", "srs1_nao.csr", "sr_nao.csr", "SR.csr")


class AbacusReader(HamiltonianReader):
    """Reads an LCAO run of ABACUS 3 with `out_mat_hs2 1` (`out_hsr 1`), or one of `calculation get_S`.

    Needed are STRU and INPUT, and the CSR files and log of OUT.SUFFIX, there or in the same folder. The pairs of atoms
    are those of H, which reaches beyond S where nonlocal projectors join orbitals that do not overlap.
    """

    record = RECORD

    def _read(self, directory: Path) -> RealSpaceHamiltonian:
        """H(R) and S(R) of one run, S(R) alone of `get_S`.

        :raises InputError: no ABACUS run, one without matrices, or of an unknown version.
        :raises DataError: the run did not converge, its files do not belong together, or one is damaged.
        """
        path = find_output(directory)
        log, folder = read_output(path), path.parent
        settings = read_input(directory, folder)
        n_spin = int(settings.get("nspin", "1"))
        if n_spin not in SPINS:
            raise DataError("nspin is wrong", where=folder, found=n_spin, expected="1, 2 or 4")
        stru = read_stru(_find_stru(directory, folder, settings), log.lattice)
        _check_structure(stru, log, path)
        basis = _basis(log, path)
        parts = _read_matrices(folder, n_spin, path.name == SCF_LOG)
        shift = _wrapped_by(stru, log, parts[-1], path)
        symbols = stru.symbols
        hamiltonian, overlap = _placed(parts, basis, symbols, n_spin)
        data = RealSpaceHamiltonian(
            Structure(symbols, stru.fractional @ stru.cell * BOHR_TO_ANGSTROM, stru.cell * BOHR_TO_ANGSTROM),
            basis,
            SPINS[n_spin],
            hamiltonian,
            overlap,
            log.fermi_energy,
            log.n_electrons,
            _metadata(log, settings_of_run(log, settings, stru, directory, folder), n_spin, path.name == SCF_LOG),
            # Where all are zero, ABACUS starts from 1 on every atom.
            Moments(stru.moments) if n_spin > 1 and stru.moments is not None and stru.moments.any() else None,
        )
        return unwrapped(data, shift)


def read_input(directory: Path, output: Path) -> dict[str, str]:
    """Keywords of INPUT in lower case -> first word after them; what ABACUS itself wrote in OUT.SUFFIX comes first.

    :raises InputError: there is no INPUT.
    """
    path = next((folder / "INPUT" for folder in (output, directory) if (folder / "INPUT").is_file()), None)
    if path is None:
        raise InputError("INPUT is missing", where=directory, expected="INPUT, to tell nspin")
    settings = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        words = re.split(r"#|//", line)[0].split()
        if len(words) > 1:
            settings[words[0].lower()] = words[1]
    return settings


def _find_stru(directory: Path, output: Path, settings: dict[str, str]) -> Path:
    names = [settings.get("stru_file", "STRU"), "STRU"]
    path = next((path for name in names if (path := find_beside(name, directory, output))), None)
    if path is None:
        raise InputError(
            "structure is missing", where=directory, expected=names[0], remedy="keep STRU beside the output"
        )
    return path


def _check_structure(stru: Stru, log: AbacusOutput, path: Path) -> None:
    """STRU is that of the run: what the log says counts, which has fewer digits.

    :raises DataError: it is not.
    """
    counts = {label: int((stru.types == n).sum()) for n, label in enumerate(stru.labels)}
    lattice = log.lattice
    off = 0.0 if lattice is None else float(np.abs(stru.cell / stru.constant - lattice).max())
    if (log.counts and counts != log.counts) or off > CELL_DIGITS * np.abs(stru.cell / stru.constant).max():
        raise DataError(
            "structure is not that of the run",
            where=stru.path,
            found=f"{counts}, cell off by {off:.1e} lattice constants",
            expected=f"{log.counts} and the cell in {path.name}",
            remedy="keep STRU as it was when ABACUS read it",
        )


def _basis(log: AbacusOutput, path: Path) -> OrbitalBasis:
    basis = OrbitalBasis({})
    for label, shells in log.shells.items():
        basis = basis.union(OrbitalBasis({element_of(label, path): shells}))
    return basis


def _read_matrices(folder: Path, n_spin: int, with_hamiltonian: bool) -> list[AbacusMatrix]:
    """H of each spin, then S.

    :raises InputError: one is missing.
    """
    paths = []
    if with_hamiltonian:
        count = 2 if n_spin == 2 else 1
        names = next((pair for pair in HAMILTONIANS if (folder / pair[0]).is_file()), None)
        if names is None or not all((folder / name).is_file() for name in names[:count]):
            raise InputError(
                "no H(R) here",
                where=folder,
                expected=" or ".join(", ".join(pair[:count]) for pair in HAMILTONIANS),
                remedy="set out_mat_hs2 1 (out_hsr 1 in later releases) and gamma_only 0",
            )
        paths = [folder / name for name in names[:count]]
    overlap = next((folder / name for name in OVERLAPS if (folder / name).is_file()), None)
    if overlap is None:
        raise InputError("no S(R) here", where=folder, expected=" or ".join(OVERLAPS))
    matrices = [read_csr(path) for path in [*paths, overlap]]
    if not len(matrices[-1].values):
        raise DataError(
            "S(R) is empty",
            where=overlap,
            expected="elements",
            remedy="get_S with nspin 4 writes nothing: use nspin 1, S is the same",
        )
    if len({matrix.n_rows for matrix in matrices}) > 1:
        raise DataError("files of different runs", where=folder, found="matrices of different sizes")
    return matrices


def _wrapped_by(stru: Stru, log: AbacusOutput, matrix: AbacusMatrix, path: Path) -> NDArray[np.int64]:
    """Lattice vector that ABACUS took from each atom: its R refer to positions in the cell, shape (n_atoms, 3).

    :raises DataError: the structure is not that of the run.
    """
    wrapped = matrix.positions
    if wrapped is None and log.coordinates is not None:
        wrapped = log.coordinates
        if not log.fractional:
            wrapped = wrapped * stru.constant @ np.linalg.inv(stru.cell)
    if wrapped is None:
        wrapped = stru.fractional - np.floor(stru.fractional)
    if len(wrapped) != len(stru.fractional):
        raise DataError(
            "files of different runs", where=stru.path, found=f"{len(stru.fractional)} atoms", expected=len(wrapped)
        )
    difference = stru.fractional - wrapped
    shift = np.rint(difference).astype(np.int64)
    if np.abs(difference - shift).max(initial=0.0) > POSITION_DIGITS:
        raise DataError(
            "structure is not that of the matrices",
            where=stru.path,
            found=f"positions off by {np.abs(difference - shift).max():.1e} lattice vectors",
            expected=f"those in {matrix.path.name if matrix.positions is not None else path.name}",
        )
    return shift


def _placed(
    parts: list[AbacusMatrix], basis: OrbitalBasis, symbols: tuple[str, ...], n_spin: int
) -> tuple[BlockSparseMatrix | None, BlockSparseMatrix]:
    """H(R) in eV (None without) and S(R) on the same pairs, in our order of orbitals and spins.

    With nspin 4 the rows of an atom are 2 * orbital + spin; so they are in S, but for that of a `get_S` without spin.
    """
    sizes, orbitals = basis.orbitals_per_atom(symbols), orbital_map(basis, symbols, RECORD.convention)
    S = parts[-1]
    elements = (S.rows, S.columns, S.cell, S.values.real)
    if n_spin == 4 and S.n_rows == 2 * sizes.sum():
        kept = (S.rows % 2 == 0) & (S.columns % 2 == 0)
        rows, columns, cell, values = (array[kept] for array in elements)
        elements = (rows // 2, columns // 2, cell, values)
    else:
        _check_size(S, sizes)
    places = [entry_places(*elements[:3], S.cells, sizes, orbitals)]
    spinful = n_spin == 4
    for part in parts[:-1]:
        _check_size(part, 2 * sizes if spinful else sizes)
        known = _both_spins(orbitals, sizes) if spinful else orbitals
        counts = 2 * sizes if spinful else sizes
        places.append(entry_places(part.rows, part.columns, part.cell, part.cells, counts, known))
    pairs = united_pairs(*(place.atom_pairs for place in places))
    places = [place.on(pairs) for place in places]
    overlap = places[0].spatial(elements[3])
    if len(parts) == 1:
        return None, overlap
    H = [part.values * RECORD.releases[0].rydberg for part in parts[:-1]]
    if n_spin == 2:
        return joined(*(place.spatial(values) for place, values in zip(places[1:], H, strict=True))), overlap
    return places[1].spatial(H[0].astype(np.complex128) if spinful else H[0]), overlap


def _both_spins(
    orbitals: tuple[NDArray[np.int64], NDArray[np.float64]], sizes: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Index and factor of each row 2 * orbital + spin: of an atom all up, then all down."""
    index, factor = orbitals
    first, n = (np.repeat(values, sizes) for values in (np.cumsum(sizes) - sizes, sizes))
    up = index + first
    return np.stack([up, up + n], axis=1).ravel(), np.repeat(factor, 2)


def _check_size(part: AbacusMatrix, orbitals: NDArray[np.int64]) -> None:
    if part.n_rows != orbitals.sum():
        raise DataError(
            "numbers of orbitals do not fit",
            where=part.path,
            found=part.n_rows,
            expected=f"{int(orbitals.sum())} by STRU and the log",
        )


def _metadata(log: AbacusOutput, settings: dict[str, Any], n_spin: int, scf: bool) -> dict[str, object]:
    recorded: dict[str, Any] = {**settings, "nspin": n_spin, "scf_cycles": len(log.scf_energies)}
    if n_spin == 4:
        # Releases up to 3.10 have the exchange field with the complex conjugate of sigma_y: with spin-orbit coupling a
        # moment (mx, my, mz) of their output acts as (mx, -my, mz). H is kept as the release had it.
        recorded["sigma_y"] = "see the ABACUS release: its sign changed after 3.10"
    return {
        "code": RECORD.name,
        "version": log.version,
        **({"converged": True} if scf else {}),
        "settings": recorded,
        "energy_eV": log.energy,
    }
