"""CP2K output -> H(R), S(R)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aiida_deeph.engine.dft.base import HamiltonianReader
from aiida_deeph.engine.dft.cp2k.code import RECORD
from aiida_deeph.engine.dft.cp2k.csr import find_matrix_files, read_matrix
from aiida_deeph.engine.dft.cp2k.geometry import structure_of_run
from aiida_deeph.engine.dft.cp2k.input_file import read_input
from aiida_deeph.engine.dft.cp2k.main_output import MainOutput, find_main_output, parse_main_output
from aiida_deeph.engine.dft.cp2k.settings import settings_of_kinds, stated_settings
from aiida_deeph.engine.domain.basis import OrbitalBasis, SpinMode
from aiida_deeph.engine.domain.blocksparse import BlockSparseMatrix
from aiida_deeph.engine.domain.channels import joined
from aiida_deeph.engine.domain.hamiltonian import RealSpaceHamiltonian
from aiida_deeph.engine.domain.moments import Moments
from aiida_deeph.engine.domain.pairs import PAIR_THRESHOLD, significant_pairs
from aiida_deeph.engine.domain.structure import Structure
from aiida_deeph.engine.domain.transforms import from_convention
from aiida_deeph.engine.errors import DataError, InputError
from aiida_deeph.engine.orbitals.gaussian import GaussianBasis
from aiida_deeph.engine.units import HARTREE_TO_EV

# An atom whose fractional coordinate is this close to a half may have been wrapped to either side.
AMBIGUOUS = 1e-4


class Cp2kReader(HamiltonianReader):
    """Reads a CP2K run that has the sections of `required_input`, where it lies."""

    record = RECORD

    def _read(self, directory: Path) -> RealSpaceHamiltonian:
        """H(R) and S(R) of one run; an unrestricted calculation gives collinear spin.

        :raises InputError: no CP2K run, or one without the matrices.
        :raises DataError: the run did not converge, or a file is damaged.
        """
        output = parse_main_output(find_main_output(directory))
        if not output.converged:
            raise DataError(
                "density did not converge",
                where=output.path,
                expected="`SCF run converged`",
                remedy="raise MAX_SCF, or change mixing or smearing",
            )
        structure, kinds, stated = structure_of_run(output)
        basis = _basis(output, structure.symbols, kinds)
        sizes = basis.orbitals_per_atom(structure.symbols)
        found = [find_matrix_files(directory, output.project, "KS", spin) for spin in (1, 2)]
        # What the output does not say at PRINT_LEVEL LOW.
        n_spins = output.n_spins or sum(bool(files) for files in found)
        overlap = read_matrix(find_matrix_files(directory, output.project, "S", 1), output.cells["S"], sizes)
        spins = [read_matrix(files, output.cells["KS"], sizes) for files in found[:n_spins]]
        spin = SpinMode.NONE if n_spins == 1 else SpinMode.COLLINEAR
        hamiltonian = spins[0]
        if spin is SpinMode.COLLINEAR:
            pairs = np.unique(np.concatenate([M.atom_pairs for M in spins]), axis=0)
            hamiltonian = joined(*(M.aligned_to(pairs, sizes) for M in spins))
        shift = _wrapping(structure, overlap)
        data = RealSpaceHamiltonian(
            structure,
            basis,
            spin,
            _unwrapped(hamiltonian, shift) * HARTREE_TO_EV,
            _unwrapped(overlap, shift),
            output.fermi_energy,
            sum(output.electrons[-n_spins:]),
            {
                "code": RECORD.name,
                "version": output.version,
                "converged": True,
                "settings": {
                    **stated_settings(stated),
                    **output.settings,
                    **settings_of_kinds(output.kinds, dict(zip(kinds, structure.symbols, strict=True))),
                    "project": output.project,
                    "scf_cycles": output.n_cycles,
                },
                "energy_eV": output.energy,
                "pair_threshold": PAIR_THRESHOLD,
            },
            _moments(output, kinds) if spin is SpinMode.COLLINEAR else None,
        )
        return from_convention(significant_pairs(data), RECORD.convention)

    def gaussians(self, directory: Path, data: RealSpaceHamiltonian) -> GaussianBasis | None:
        """The Gaussians that the run prints."""
        output = parse_main_output(find_main_output(directory))
        structure, kinds, _ = structure_of_run(output)
        return GaussianBasis(
            {symbol: output.kinds[n].shells for n, symbol in zip(kinds, structure.symbols, strict=True)}
        )


def _basis(output: MainOutput, symbols: tuple[str, ...], kinds: tuple[int, ...]) -> OrbitalBasis:
    basis = OrbitalBasis({})
    for kind, symbol in sorted(set(zip(kinds, symbols, strict=True))):
        if kind not in output.kinds:
            raise DataError("basis of a kind is missing", where=output.path, found=f"kind {kind}, {symbol}")
        basis = basis.union(OrbitalBasis({symbol: tuple(shell.l for shell in output.kinds[kind].shells)}))
    return basis


def _moments(output: MainOutput, kinds: tuple[int, ...]) -> Moments | None:
    """MAGNETIZATION of each kind in the input, and the moments by Mulliken; None if the run tells neither."""
    try:
        subsys = read_input(output.path.parent / Path(output.input_file).name).get("FORCE_EVAL", "SUBSYS")
    except InputError:  # the output may tell all the same
        subsys = None
    given = {
        section.parameter.split()[0].upper(): section.keyword("MAGNETIZATION")
        for section in (subsys.sections if subsys else ())
        if section.name == "KIND" and section.parameter
    }
    names = [output.kinds[kind].name.upper() for kind in kinds]
    known = any(given.get(name) is not None for name in names)
    nominal = np.array([float(given.get(name) or 0.0) for name in names]) if known else None
    converged = np.array(output.spin_moments) if len(output.spin_moments) == len(kinds) else None
    return None if nominal is None and converged is None else Moments(nominal, converged)


def _wrapping(structure: Structure, overlap: BlockSparseMatrix) -> NDArray[np.int64]:
    """Lattice vectors n with position = wrapped position + n, shape (n_atoms, 3).

    CP2K's R belongs to atoms wrapped to fractional [-1/2, 1/2). Where rounding decides the side, the overlap
    does here: it falls off with distance, so the choice that brings overlapping atoms nearest is the one CP2K made.
    """
    fractional = np.linalg.solve(structure.cell.T, structure.positions.T).T
    periodic = np.array(structure.pbc)
    shift = np.where(periodic, np.floor(fractional + 0.5), 0.0).astype(np.int64)
    to_edge = np.abs(fractional - np.floor(fractional) - 0.5)
    open_choices = np.argwhere((to_edge < AMBIGUOUS) & periodic)
    if not len(open_choices):
        return shift
    pairs = overlap.atom_pairs
    weights = np.add.reduceat(overlap.entries**2, overlap.chunk_boundaries[:-1])

    def cost(rows: NDArray[np.bool_], trial: NDArray[np.int64]) -> float:
        vectors = structure.pair_vectors(_shifted_pairs(pairs[rows], trial))
        return float(weights[rows] @ np.einsum("px,px->p", vectors, vectors))

    for _ in range(len(open_choices) + 1):
        changed = False
        for atom, axis in open_choices:
            rows = (pairs[:, 3] == atom) | (pairs[:, 4] == atom)
            low = int(np.floor(fractional[atom, axis] + 0.5 - AMBIGUOUS))
            best = shift.copy()
            for value in (low, low + 1):
                trial = shift.copy()
                trial[atom, axis] = value
                if cost(rows, trial) < cost(rows, best) * (1 - 1e-9):
                    best = trial
            changed |= not np.array_equal(best, shift)
            shift = best
        if not changed:
            break
    return shift


def _shifted_pairs(pairs: NDArray[np.int64], shift: NDArray[np.int64]) -> NDArray[np.int64]:
    result = pairs.copy()
    result[:, :3] += shift[pairs[:, 3]] - shift[pairs[:, 4]]
    return result


def _unwrapped(matrix: BlockSparseMatrix, shift: NDArray[np.int64]) -> BlockSparseMatrix:
    """The matrix with R counted between the positions as they are in the structure."""
    return replace(matrix, atom_pairs=_shifted_pairs(matrix.atom_pairs, shift))
