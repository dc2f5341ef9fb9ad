"""A collinear magnet as networks learn it: its two spin channels side by side, as one structure without spin.

Without spin-orbit coupling spin and lattice do not turn together, and H_uu = F(structure, moments), H_dd =
F(structure, -moments) with one real F. So each channel is a copy of the structure whose atoms are of kinds: `Fe_up`
with its moment along the spin of the channel, `Fe_down` against it, `Fe` without. A network takes kinds for elements;
to flip all moments exchanges the copies, and so the channels, exactly.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from aiida_deeph.engine.domain.basis import OrbitalBasis, SpinMode
from aiida_deeph.engine.domain.blocksparse import BlockSparseMatrix
from aiida_deeph.engine.domain.hamiltonian import RealSpaceHamiltonian
from aiida_deeph.engine.domain.moments import Moments
from aiida_deeph.engine.domain.structure import Structure
from aiida_deeph.engine.errors import DataError, InputError

ENDINGS: Mapping[int, str] = {1: "_up", -1: "_down", 0: ""}
# Entries of H between the spins, or imaginary ones, are no rounding beyond, eV.
COUPLING = 1e-6


def element_of(kind: str) -> str:
    """The element of a kind."""
    return kind.partition("_")[0]


def kinds_of(structure: Structure, moments: Moments | None) -> set[str]:
    """Kinds of atoms in both channels of a structure; elements where no moments are known."""
    signs = np.zeros(len(structure), dtype=np.int64) if moments is None else moments.signs
    signed = set(zip(structure.symbols, signs.tolist(), strict=True))
    return {symbol + ENDINGS[flip * sign] for symbol, sign in signed for flip in (1, -1)}


def basis_of_kinds(basis: OrbitalBasis, kinds: Iterable[str]) -> OrbitalBasis:
    """Each kind with the shells of its element, in the order of the elements."""
    places = {symbol: n for n, symbol in enumerate(basis.elements)}
    ordered = sorted(set(kinds), key=lambda kind: (places[element_of(kind)], kind[::-1]))
    return OrbitalBasis({kind: basis.shells_of(element_of(kind)) for kind in ordered})


def channels_of(structure: Structure, moments: Moments | None) -> Structure:
    """Both channels side by side, spin up first: 2 n_atoms atoms, named by their kinds.

    :raises InputError: the moments are unknown, not collinear, or not those of the structure.
    """
    if moments is None or len(moments) != len(structure):
        raise InputError(
            "moments of a collinear magnet are needed",
            where="structure, moments.json",
            found="none" if moments is None else f"{len(moments)} of {len(structure)} atoms",
            expected="the nominal moment of each atom, which tells its magnetic states apart",
            remedy="give magnetic_moments, or moments.json beside info.json",
        )
    if np.abs(moments.state[:, :2]).max(initial=0.0) > 1e-6:
        raise InputError("moments of a collinear magnet are not along z", expected="numbers, or vectors [0, 0, m]")
    symbols = [
        tuple(symbol + ENDINGS[flip * int(s)] for symbol, s in zip(structure.symbols, moments.signs, strict=True))
        for flip in (1, -1)
    ]
    positions = np.concatenate([structure.positions] * 2)
    return Structure(symbols[0] + symbols[1], positions, structure.cell, structure.pbc)


def pairs_of_channels(atom_pairs: NDArray[np.int64], n_atoms: int) -> NDArray[np.int64]:
    """The pairs of spin up, then those of spin down, shape (2 n_pairs, 5)."""
    return np.concatenate([atom_pairs, atom_pairs + np.array([0, 0, 0, n_atoms, n_atoms])])


def separated(data: RealSpaceHamiltonian) -> RealSpaceHamiltonian:
    """Collinear data -> both channels side by side, without spin and without overlap.

    :raises InputError: see `channels_of`.
    :raises DataError: H joins the two spins, or is not real.
    """
    structure = channels_of(data.structure, data.moments)
    kinds, hamiltonian = set(structure.symbols), None
    if data.hamiltonian is not None:
        H = data.hamiltonian
        shapes = H.chunk_shapes // 2
        spatial = BlockSparseMatrix.from_pairs(H.atom_pairs, data.orbitals_per_atom)
        up, down = _places(spatial)
        entries = np.concatenate([H.entries[up], H.entries[down]])
        rest = np.abs(H.entries).sum() - np.abs(entries).sum() + np.abs(entries.imag).max(initial=0.0)
        if rest > COUPLING * max(1.0, float(np.abs(entries).sum())):
            raise DataError(
                "H of a collinear magnet joins its spins", found=f"{rest:.2g} eV", expected="real [[uu, 0], [0, dd]]"
            )
        hamiltonian = BlockSparseMatrix(
            pairs_of_channels(H.atom_pairs, len(data.structure)),
            np.concatenate([shapes, shapes]),
            np.concatenate([spatial.chunk_boundaries, spatial.chunk_boundaries[1:] + spatial.chunk_boundaries[-1]]),
            np.ascontiguousarray(entries.real),
        )
    return replace(
        data,
        structure=structure,
        basis=basis_of_kinds(data.basis, kinds),
        spin=SpinMode.NONE,
        hamiltonian=hamiltonian,
        overlap=None,
        moments=None,
    )


def joined(up: BlockSparseMatrix, down: BlockSparseMatrix) -> BlockSparseMatrix:
    """[[up, 0], [0, down]] of blocks of the same pairs, complex, of the precision of the entries."""
    n, m = up.chunk_shapes.T
    boundaries = np.concatenate([[0], np.cumsum(4 * n * m)]).astype(np.int64)
    entries = np.zeros(boundaries[-1], dtype=np.result_type(up.entries, np.complex64))
    for place, values in zip(_places(up), (up.entries, down.entries), strict=True):
        entries[place] = values
    return BlockSparseMatrix(up.atom_pairs, 2 * up.chunk_shapes, boundaries, entries)


def merged(channels: BlockSparseMatrix, n_atoms: int) -> BlockSparseMatrix:
    """Both channels side by side -> collinear, pairs sorted: the inverse of `separated`.

    :param n_atoms: of the structure, half of those of the channels.
    """
    channels = channels.sorted()
    up, down = (channels.selected(rows) for rows in np.split(np.arange(len(channels)), 2))
    return joined(up, replace(down, atom_pairs=down.atom_pairs - np.array([0, 0, 0, n_atoms, n_atoms])))


def _places(spatial: BlockSparseMatrix) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where each entry of a block stands in [[up, 0], [0, down]], as spin up and as spin down."""
    rows, columns = (x.astype(np.int64) for x in spatial.entry_positions())
    n, m = spatial.chunk_shapes[spatial.pair_of_entry].T
    up = 4 * spatial.chunk_boundaries[:-1][spatial.pair_of_entry] + rows * 2 * m + columns
    return up, up + n * 2 * m + m
