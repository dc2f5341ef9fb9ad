"""S of two atoms is symmetric about the line that joins them: what ties its components to directions, in any basis.

An overlap is a two-centre integral, <l m|S|l' m'> = s_|m| delta_mm' with the axis along the bond. So S commutes with
rotations about the bond n: (n.L) S = S (n.L), with the generators L of rotations of real spherical harmonics.
Components that belong to another direction, as of a structure that was turned or mirrored, or of two atoms that were
exchanged, do not. What no S can tell without its basis is a common change of all lengths, and an inversion: that is the
structure as it was, in orbitals of odd l with the other sign; so the sign of s with p is compared among the members of
a dataset.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from aiida_deeph.engine.domain.blocksparse import BlockSparseMatrix
from aiida_deeph.engine.domain.hamiltonian import RealSpaceHamiltonian

Real = NDArray[np.float64]
# Smaller overlaps of s and p have no sign worth telling.
TELLING = 0.02
# Pairs that are handled at a time.
CHUNK = 1 << 14


@cache
def generators(shells: tuple[int, ...]) -> Real:
    """Generators of rotations about x, y and z of real harmonics, m = -l..l of each shell, shape (3, n, n)."""
    size = sum(2 * l + 1 for l in shells)
    result, first = np.zeros((3, size, size)), 0
    for l in shells:
        m = np.arange(-l, l + 1)
        raising = np.diag(np.sqrt(l * (l + 1) - m[:-1] * (m[:-1] + 1)), -1).astype(complex)
        complex_L = [(raising + raising.T) / 2, (raising - raising.T) / 2j, np.diag(m).astype(complex)]
        # Rows: real harmonics without the Condon-Shortley phase by those of definite m.
        U = np.zeros((2 * l + 1, 2 * l + 1), dtype=complex)
        U[l, l] = 1
        for n in range(1, l + 1):
            U[l + n, [l + n, l - n]] = np.array([(-1) ** n, 1]) / np.sqrt(2)
            U[l - n, [l + n, l - n]] = np.array([-1j * (-1) ** n, 1j]) / np.sqrt(2)
        rows = slice(first, first + 2 * l + 1)
        for axis in range(3):
            result[axis, rows, rows] = (-1j * U.conj() @ complex_L[axis] @ U.T).real
        first += 2 * l + 1
    result.setflags(write=False)
    return result


def axial_error(data: RealSpaceHamiltonian) -> tuple[float, list[int] | None]:
    """Largest entry of (n.L) S - S (n.L) over the larger l of its shells, and its pair (R1, R2, R3, i, j)."""
    S = data.overlap
    worst, pair = 0.0, None
    if S is None or not len(S):
        return worst, pair
    vectors = data.structure.pair_vectors(S.atom_pairs)
    lengths = np.linalg.norm(vectors, axis=1)
    symbols = np.array(data.structure.symbols)
    for a in data.structure.elements:
        for b in data.structure.elements:
            kind = (symbols[S.atom_pairs[:, 3]] == a) & (symbols[S.atom_pairs[:, 4]] == b) & (lengths > 1e-6)
            found = np.flatnonzero(kind)
            left, right = generators(data.basis.shells[a]), generators(data.basis.shells[b])
            ls = [np.array([l for l in data.basis.shells[symbol] for _ in range(2 * l + 1)]) for symbol in (a, b)]
            larger = np.maximum(np.maximum.outer(*ls), 1)
            for begin in range(0, len(found), CHUNK):
                rows = found[begin : begin + CHUNK]
                blocks = _blocks(S, rows, left.shape[1], right.shape[1])
                n = vectors[rows] / lengths[rows, None]
                turned = np.einsum("pab,pbc->pac", np.tensordot(n, left, 1), blocks)
                turned -= np.einsum("pab,pbc->pac", blocks, np.tensordot(n, right, 1))
                off = np.abs(turned / larger).reshape(len(rows), -1).max(axis=1, initial=0.0)
                if len(off) and off.max() > worst:
                    worst, pair = float(off.max()), S.atom_pairs[rows[int(np.argmax(off))]].tolist()
    return worst, pair


def signs_of_odd(data: RealSpaceHamiltonian) -> dict[str, int]:
    """`A-B`, with an s shell on A and a p shell on B -> sign of their largest overlap, p counted along the bond.

    It is a matter of the basis: the same in all structures.
    """
    S = data.overlap
    if S is None or not len(S):
        return {}
    vectors = data.structure.pair_vectors(S.atom_pairs)
    lengths = np.linalg.norm(vectors, axis=1)
    symbols, shells = np.array(data.structure.symbols), data.basis.shells
    result = {}
    for a in data.structure.elements:
        for b in data.structure.elements:
            if 0 not in shells[a] or 1 not in shells[b]:
                continue
            kind = (symbols[S.atom_pairs[:, 3]] == a) & (symbols[S.atom_pairs[:, 4]] == b) & (lengths > 1e-6)
            rows = np.flatnonzero(kind)
            if not len(rows):
                continue
            sizes = [sum(2 * l + 1 for l in shells[symbol]) for symbol in (a, b)]
            s = sum(2 * l + 1 for l in shells[a][: shells[a].index(0)])
            p = sum(2 * l + 1 for l in shells[b][: shells[b].index(1)])
            along = (vectors[rows] / lengths[rows, None])[:, [1, 2, 0]]
            overlaps = np.einsum("px,px->p", _blocks(S, rows, *sizes)[:, s, p : p + 3], along)
            largest = float(overlaps[np.argmax(np.abs(overlaps))])
            if abs(largest) > TELLING:
                result[f"{a}-{b}"] = int(np.sign(largest))
    return result


def _blocks(matrix: BlockSparseMatrix, rows: NDArray[np.int64], n: int, m: int) -> Real:
    """Blocks of one shape, shape (n_rows, n, m)."""
    begins = matrix.chunk_boundaries[rows]
    return np.asarray(matrix.entries[begins[:, None] + np.arange(n * m)].real.reshape(len(rows), n, m))
