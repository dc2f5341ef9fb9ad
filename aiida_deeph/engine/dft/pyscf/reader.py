"""PySCF output -> H(R), S(R): inverse Fourier transform of the k-mesh and the nearest images of each atom pair."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aiida_deeph.engine.dft.base import HamiltonianReader
from aiida_deeph.engine.dft.pyscf.code import MATRICES_FILE, RECORD
from aiida_deeph.engine.dft.pyscf.output import PyscfOutput, read_matrices, spin_rows
from aiida_deeph.engine.domain.basis import OrbitalBasis, SpinMode
from aiida_deeph.engine.domain.blocksparse import BlockSparseMatrix
from aiida_deeph.engine.domain.hamiltonian import RealSpaceHamiltonian
from aiida_deeph.engine.domain.kpoints import mesh_indices
from aiida_deeph.engine.domain.moments import Moments
from aiida_deeph.engine.domain.pairs import PAIR_THRESHOLD, significant_pairs
from aiida_deeph.engine.domain.structure import Structure
from aiida_deeph.engine.domain.transforms import from_convention
from aiida_deeph.engine.errors import DataError

# Images whose distances differ by less count as equally near and share the matrix element, Angstrom.
TIE = 1e-4

# Classes of atom pairs handled at a time: bounds the memory of their images.
CHUNK = 1 << 14


class PyscfReader(HamiltonianReader):
    """Reads what `deeph-engine pyscf` wrote.

    :param threshold: pairs of atoms are kept while |H| (eV) or |S| exceeds it.
    """

    record = RECORD

    def __init__(self, threshold: float = PAIR_THRESHOLD) -> None:
        self.threshold = threshold

    def _read(self, directory: Path) -> RealSpaceHamiltonian:
        """H(R) and S(R) of one run.

        `metadata["range_residual_eV"]` is the largest |H| at the distance where the supercell of the k-mesh begins to
        fold H onto itself: the k-mesh is dense enough if it is small.

        :raises InputError: no PySCF run.
        :raises DataError: the run did not converge, or its file is damaged.
        """
        output = read_matrices(directory)
        results = dict(output.results)
        if not results.get("converged"):
            raise DataError(
                "density did not converge",
                where=directory / MATRICES_FILE,
                found=f"{results.get('scf_cycles')} cycles, gradient {results.get('orbital_gradient')} Hartree",
                remedy="raise max_cycle, or set a smearing",
            )
        metadata = {
            "code": RECORD.name,
            "version": results.get("version"),
            "converged": True,
            "settings": results["settings"],
            "energy_eV": results.get("energy"),
        }
        if output.orbitals_per_atom.sum() != output.hamiltonian.shape[-1]:
            raise DataError(
                "matrices do not fit the basis", where=directory / MATRICES_FILE, found=output.hamiltonian.shape
            )
        return real_space(output, metadata, self.threshold)


def real_space(
    output: PyscfOutput, metadata: Mapping[str, Any], threshold: float = PAIR_THRESHOLD
) -> RealSpaceHamiltonian:
    """H(R) and S(R) of the matrices of a run, in our conventions; see `PyscfReader`."""
    structure, results, sizes = output.structure, output.results, output.orbitals_per_atom
    kmesh = np.array(results["settings"]["kmesh"], dtype=np.int64)
    images = _Images(structure, kmesh)
    cells = images.cells
    spin = SpinMode.NONE if len(output.hamiltonian) == 1 else SpinMode.COLLINEAR
    *H, S = (_to_real_space(M, output.kpoints, cells) for M in (*output.hamiltonian, output.overlap))
    classes = np.argwhere(np.ones((len(cells), len(structure), len(structure)), dtype=bool))
    pairs, source, folded = images.nearest(classes)
    weights = 1.0 / np.bincount(source, minlength=len(classes))[source]
    rows = classes[source, 0]
    H_blocks = _blocks(_spin_major(H, sizes), spin.multiplicity * sizes, rows, pairs, weights)
    S_blocks = _blocks(S, sizes, rows, pairs, weights)
    is_molecule = not any(structure.pbc)
    if not is_molecule:
        residual = _range_residual(structure, classes, folded, H_blocks)
        metadata = {**metadata, "pair_threshold": threshold, "range_residual_eV": residual}
    data = RealSpaceHamiltonian(
        structure,
        OrbitalBasis(output.shells),
        spin,
        hamiltonian=H_blocks,
        overlap=S_blocks,
        fermi_energy=results.get("fermi_energy"),
        n_electrons=results.get("n_electrons"),
        metadata=metadata,
        moments=_moments(results),
    )
    # Of a molecule all pairs are kept: there are few, and networks of molecules learn the zeros too.
    return from_convention(data if is_molecule else significant_pairs(data, threshold), RECORD.convention)


def _moments(results: Mapping[str, Any]) -> Moments | None:
    if "spin_moments" not in results:
        return None
    return Moments(results.get("nominal_moments"), results["spin_moments"])


class _Images:
    """The periodic images of atom pairs in the supercell that a k-mesh spans.

    :param cells: one cell R of each class modulo the supercell, shape (n_kpoints, 3).
    """

    def __init__(self, structure: Structure, kmesh: NDArray[np.int64]) -> None:
        self.structure = structure
        self.cells = mesh_indices(kmesh)
        spread = np.ptp(np.linalg.solve(structure.cell.T, structure.positions.T), axis=1)
        reach = 2 + np.ceil(spread / kmesh).astype(np.int64)
        steps = np.meshgrid(*(np.arange(-n, n + 1) for n in reach), indexing="ij")
        self._steps = np.stack(steps, axis=-1).reshape(-1, 3) * kmesh
        # The calculation repeats the cell along every vector, but H(R) has R = 0 where the structure is not periodic.
        self._allowed = ~(self._steps[:, ~np.array(structure.pbc)] != 0).any(axis=1)

    def nearest(self, classes: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """Nearest image of each class of pairs, or all that are equally near.

        :param classes: rows (index in `cells`, i, j), shape (n_classes, 3).
        :return: pairs (R1, R2, R3, i, j), shape (n_pairs, 5); the class of each, shape (n_pairs,); distance of the
            nearest image of each class that shares its matrix element or was left out, Angstrom, shape (n_classes,).
        """
        pairs, source, folded = [np.zeros((0, 5), dtype=np.int64)], [np.zeros(0, dtype=np.int64)], [np.zeros(0)]
        for begin in range(0, len(classes), CHUNK):
            row, i, j = classes[begin : begin + CHUNK].T
            cells = self.cells[row][:, None, :] + self._steps
            between = self.structure.positions[j] - self.structure.positions[i]
            distances = np.linalg.norm(cells @ self.structure.cell + between[:, None, :], axis=2)
            candidates = np.where(self._allowed, distances, np.inf)
            n, image = np.nonzero(candidates < candidates.min(axis=1, keepdims=True) + TIE)
            pairs.append(np.concatenate([cells[n, image], i[n, None], j[n, None]], axis=1))
            source.append(begin + n)
            distances[np.arange(len(row)), candidates.argmin(axis=1)] = np.inf
            folded.append(distances.min(axis=1))
        return np.concatenate(pairs), np.concatenate(source), np.concatenate(folded)


def _to_real_space(
    matrices: NDArray[np.complex128], kpoints: NDArray[np.float64], cells: NDArray[np.int64]
) -> NDArray[np.float64]:
    """M(R) = 1/N_k sum_k exp(-2 pi i k.R) M(k), the inverse of M(k) = sum_R exp(2 pi i k.R) M(R); (n_cells, n, n)."""
    phases = np.exp(-2j * np.pi * cells @ kpoints.T) / len(kpoints)
    result = np.tensordot(phases, matrices, axes=1)
    return np.ascontiguousarray(result.real)


def _spin_major(matrices: list[NDArray[np.float64]], sizes: NDArray[np.int64]) -> NDArray[Any]:
    """H(R) of one spin as it is, of two with the orbitals of each atom up, then down: complex, [[uu, 0], [0, dd]]."""
    if len(matrices) == 1:
        return matrices[0]
    n = int(sizes.sum())
    result = np.zeros((len(matrices[0]), 2 * n, 2 * n), dtype=np.complex128)
    for places, matrix in zip(spin_rows(sizes), matrices, strict=True):
        result[:, places[:, None], places] = matrix
    return result


def _blocks(
    matrices: NDArray[Any],
    sizes: NDArray[np.int64],
    rows: NDArray[np.int64],
    pairs: NDArray[np.int64],
    weights: NDArray[np.float64],
) -> BlockSparseMatrix:
    """Blocks of atom pairs, `weights` times the block in the cell `rows` of each."""
    first = np.cumsum(sizes) - sizes
    result = BlockSparseMatrix.from_pairs(pairs, sizes, dtype=matrices.dtype)
    row, column = result.entry_positions()
    pair = result.pair_of_entry
    i, j = pairs[pair, 3], pairs[pair, 4]
    return result.with_entries(matrices[rows[pair], first[i] + row, first[j] + column] * weights[pair])


def _range_residual(
    structure: Structure, classes: NDArray[np.int64], folded: NDArray[np.float64], hamiltonian: BlockSparseMatrix
) -> float:
    """Largest |H| of two atoms as far apart as the nearest image that was folded onto a pair of their elements, eV.

    Where the supercell is so small that no atoms are that far apart, those count that are nearly as far.
    """
    kinds = np.unique(structure.symbols, return_inverse=True)[1]
    n = int(kinds.max()) + 1

    def kind(atoms: NDArray[np.int64]) -> NDArray[np.int64]:
        low, high = np.sort(kinds[atoms], axis=1).T
        return np.asarray(low * n + high)

    limits, reaches = np.full(n * n, np.inf), np.zeros(n * n)
    np.minimum.at(limits, kind(classes[:, 1:]), folded)
    distances = np.linalg.norm(structure.pair_vectors(hamiltonian.atom_pairs), axis=1)
    kind_of = kind(hamiltonian.atom_pairs[:, 3:])
    np.maximum.at(reaches, kind_of, distances)
    far = distances >= np.where(reaches < limits, 0.9 * reaches, limits)[kind_of] - TIE
    return float(hamiltonian.norms()[far].max(initial=0.0))
