"""Quality gates: each looks at one property of H(R) and S(R) and gives a recorded result."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace

import numpy as np
import scipy.linalg as la
import scipy.sparse as sp
import scipy.sparse.linalg as sla

from aiida_deeph.engine.domain.basis import OrbitalBasis
from aiida_deeph.engine.domain.blocksparse import BlockSparseMatrix, match_pairs
from aiida_deeph.engine.domain.gate import Gate
from aiida_deeph.engine.domain.geometry import geometry_gates
from aiida_deeph.engine.domain.hamiltonian import RealSpaceHamiltonian

# S(k) is looked at here: Gamma, a corner of the Brillouin zone and a point without symmetry.
K_POINTS = ((0.0, 0.0, 0.0), (0.5, 0.5, 0.5), (0.17, 0.31, 0.43))
# Up to so many rows S(k) is diagonalised densely.
DENSE_LIMIT = 1500
# Up to so many rows S(k) is factorised for shift-invert.
FACTOR_LIMIT = 30_000


@dataclass(frozen=True)
class Limits:
    """What the gates tolerate.

    :param max_hermiticity_error: of H, eV, and of S.
    :param min_overlap_eigenvalue: smallest eigenvalue of S(k).
    :param max_dropped: largest |H| entry that a cutoff may drop, eV.
    :param max_band_error: by how much a cutoff may move a band, eV.
    """

    max_hermiticity_error: float = 1e-5
    min_overlap_eigenvalue: float = 1e-6
    max_dropped: float = 1e-2
    max_band_error: float = 1e-2


def run_gates(
    data: RealSpaceHamiltonian, limits: Limits | None = None, *, overlap_eigenvalue: bool = True
) -> list[Gate]:
    """All gates that apply to the data; those that need finite, paired entries are left out if these failed.

    :param overlap_eigenvalue: whether S(k) is diagonalised, which takes time where there are many atoms.
    """
    limits = limits or Limits()
    gates = [converged(data)]
    for name, matrix, unit in (("H", data.hamiltonian, "eV"), ("S", data.overlap, "")):
        if matrix is None:
            continue
        basic = [
            finite(name, matrix),
            unique_pairs(name, matrix),
            closed_pairs(name, matrix),
            on_site_blocks(name, data, matrix),
        ]
        gates += basic
        if all(gate.passed for gate in basic) and (name == "S" or data.metadata.get("hermitian") is not False):
            gates.append(hermitian(name, matrix, limits.max_hermiticity_error, unit))
    if data.hamiltonian is not None and data.overlap is not None:
        gates.append(overlap_pairs(data.hamiltonian, data.overlap))
    if (
        overlap_eigenvalue
        and data.overlap is not None
        and all(gate.passed for gate in gates if gate.name.startswith("S "))
    ):
        gates.append(positive_overlap(data, limits.min_overlap_eigenvalue))
    if all(gate.passed for gate in gates if gate.name != "SCF converged"):
        gates += geometry_gates(data)
    return gates


def converged(data: RealSpaceHamiltonian) -> Gate:
    """The run that made the data says that it converged; data that do not say pass."""
    value = data.metadata.get("converged")
    return Gate("SCF converged", value is not False, detail="" if value is not None else "not recorded")


def finite(name: str, matrix: BlockSparseMatrix) -> Gate:
    """No entry is NaN or infinite."""
    count = int(np.count_nonzero(~np.isfinite(matrix.entries)))
    detail = _pair(matrix, int(matrix.pair_of_entry[~np.isfinite(matrix.entries)][0])) if count else ""
    return Gate(f"{name} finite", count == 0, count, 0, "entries", detail=detail)


def unique_pairs(name: str, matrix: BlockSparseMatrix) -> Gate:
    """No atom pair stands twice."""
    count = matrix.n_repeated_pairs()
    return Gate(f"{name} pairs unique", count == 0, count, 0, "pairs")


def closed_pairs(name: str, matrix: BlockSparseMatrix) -> Gate:
    """(-R, j, i) stands beside every (R, i, j)."""
    missing = np.flatnonzero(matrix.conjugate_pairs() < 0)
    detail = _pair(matrix, int(missing[0])) if len(missing) else ""
    return Gate(f"{name} pairs closed", not len(missing), len(missing), 0, "pairs", detail=detail)


def on_site_blocks(name: str, data: RealSpaceHamiltonian, matrix: BlockSparseMatrix) -> Gate:
    """Every atom has its block with itself."""
    atoms = np.arange(len(data.structure))
    on_site = np.concatenate([np.zeros((len(atoms), 3), dtype=np.int64), atoms[:, None], atoms[:, None]], axis=1)
    missing = np.flatnonzero(match_pairs(matrix.atom_pairs, on_site) < 0)
    detail = f"atom {missing[0]}" if len(missing) else ""
    return Gate(f"{name} on-site blocks", not len(missing), len(missing), 0, "missing", detail=detail)


def hermitian(name: str, matrix: BlockSparseMatrix, limit: float, unit: str) -> Gate:
    """M_ij(R) = M_ji(-R)^dagger."""
    error = matrix.hermiticity_error()
    return Gate(f"{name} Hermitian", error <= limit, error, limit, unit)


def overlap_pairs(hamiltonian: BlockSparseMatrix, overlap: BlockSparseMatrix, tolerance: float = 1e-6) -> Gate:
    """H has a block wherever S has one that matters; the reverse is usual (nonlocal projectors reach beyond S)."""
    missing = match_pairs(hamiltonian.atom_pairs, overlap.atom_pairs) < 0
    largest = float(overlap.norms()[missing].max(initial=0.0))
    return Gate(
        "S pairs within H pairs", largest <= tolerance, largest, tolerance, detail=f"{missing.sum()} pairs of S alone"
    )


def positive_overlap(data: RealSpaceHamiltonian, limit: float) -> Gate:
    """Smallest eigenvalue of S(k): a near-singular S turns small errors of H into large errors of bands."""
    spatial = replace(data, hamiltonian=None)
    assert spatial.overlap is not None
    large = data.orbitals_per_atom.sum() > DENSE_LIMIT
    k_points = K_POINTS[:1] if large else K_POINTS  # the Brillouin zone of a large cell is small
    values = [smallest_eigenvalue(spatial.overlap.to_csr(k, data.orbitals_per_atom)) for k in k_points]
    worst = int(np.argmin(values))
    return Gate(
        "S(k) smallest eigenvalue", values[worst] >= limit, values[worst], limit, detail=f"k = {K_POINTS[worst]}"
    )


def one_basis(known: OrbitalBasis, data: RealSpaceHamiltonian) -> Gate:
    """The shells of each element are those of the members before."""
    differing = [s for s in data.basis.elements if s in known.shells and known.shells[s] != data.basis.shells[s]]
    detail = "; ".join(f"{s}: {list(data.basis.shells[s])}, before {list(known.shells[s])}" for s in differing)
    return Gate("one basis per element", not differing, len(differing), 0, "elements", detail=detail)


def smallest_eigenvalue(matrix: sp.csr_matrix) -> float:
    """Smallest eigenvalue of a Hermitian matrix.

    Dense up to `DENSE_LIMIT` rows. Beyond, two sparse estimates: Ritz values from below the spectrum's bulk, which see
    clearly negative eigenvalues at once, and shift-invert close to zero, which resolves tiny ones. Beyond
    `FACTOR_LIMIT` only the first is affordable: an upper bound.
    """
    n = matrix.shape[0]
    if n <= DENSE_LIMIT:
        return float(la.eigvalsh(matrix.toarray(), subset_by_index=[0, 0])[0])
    start = np.random.default_rng(0).standard_normal((n, 4)).astype(matrix.dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # lobpcg tells that it stopped early, as we want
        ritz = float(np.min(sla.lobpcg(matrix, start, largest=False, maxiter=40, tol=1e-6)[0]))
    if n > FACTOR_LIMIT:
        return ritz
    near_zero = sla.eigsh(matrix.tocsc(), k=1, sigma=-1e-3, which="LM", return_eigenvectors=False, v0=start[:, 0])
    return min(ritz, float(near_zero[0]))


def _pair(matrix: BlockSparseMatrix, row: int) -> str:
    return f"pair (R1, R2, R3, i, j) = {matrix.atom_pairs[row].tolist()}"
