"""Order and sign of orbitals, layout of spin, zero of energy: the only place that permutes orbitals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from aiida_deeph.engine.domain.basis import OrbitalBasis
from aiida_deeph.engine.domain.blocksparse import BlockSparseMatrix, equal_kinds, match_pairs
from aiida_deeph.engine.domain.convention import OrbitalConvention
from aiida_deeph.engine.domain.hamiltonian import RealSpaceHamiltonian
from aiida_deeph.engine.errors import DataError, InputError

Permutations = Mapping[int, tuple[int, ...]]
Signs = Mapping[int, tuple[int, ...]]


def from_convention(data: RealSpaceHamiltonian, convention: OrbitalConvention) -> RealSpaceHamiltonian:
    """Data whose shells are in another order and signs -> the same in ours, m = -l..l."""
    ls = _angular_momenta(data)
    return reorder(data, {l: convention.permutation(l) for l in ls}, {l: convention.signs(l) for l in ls})


def orbital_map(
    basis: OrbitalBasis, symbols: Sequence[str], convention: OrbitalConvention
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Where `from_convention` puts each orbital of the cell, and with which factor: for readers that place elements.

    :param symbols: of the atoms, in their order.
    :return: new index of each orbital, shape (n_orbitals,), and +1 or -1, shape (n_orbitals,).
    """
    tables: dict[str, tuple[NDArray[np.int64], NDArray[np.float64]]] = {}
    for symbol in dict.fromkeys(symbols):
        place, factor = np.empty(basis.n_orbitals(symbol), dtype=np.int64), np.empty(basis.n_orbitals(symbol))
        first = 0
        for l in basis.shells[symbol]:
            old = first + np.array(convention.permutation(l))
            place[old] = np.arange(first, first + 2 * l + 1)
            factor[old] = convention.signs(l)
            first += 2 * l + 1
        tables[symbol] = place, factor
    sizes = basis.orbitals_per_atom(symbols)
    begin = np.repeat(np.cumsum(sizes) - sizes, sizes)
    places = np.concatenate([tables[symbol][0] for symbol in symbols])
    return begin + places, np.concatenate([tables[symbol][1] for symbol in symbols])


def to_convention(data: RealSpaceHamiltonian, convention: OrbitalConvention) -> RealSpaceHamiltonian:
    """Data in our order and signs -> the same in another: the inverse of `from_convention`."""
    ls = _angular_momenta(data)
    permutations = {l: tuple(m + l for m in convention.ms(l)) for l in ls}
    signs = {l: tuple(convention.signs(l)[m] for m in permutations[l]) for l in ls}
    return reorder(data, permutations, signs)


def reorder(data: RealSpaceHamiltonian, permutations_by_l: Permutations, signs_by_l: Signs) -> RealSpaceHamiltonian:
    """Permute the orbitals inside each shell of H and S: new[k] = signs[l][k] * old[permutations[l][k]].

    :param permutations_by_l: l -> old place of each new orbital of a shell; every l of the basis is needed.
    :param signs_by_l: l -> factor +1 or -1 of each new orbital.
    :raises InputError: a table is missing for some l or is no permutation with signs.
    """
    for l in _angular_momenta(data):
        order, signs = permutations_by_l.get(l, ()), signs_by_l.get(l, ())
        if sorted(order) != list(range(2 * l + 1)) or len(signs) != 2 * l + 1 or {*signs} - {1, -1}:
            raise InputError("orbital table is wrong", where=f"l = {l}", found=f"{list(order)}, {list(signs)}")
    orders: dict[str, NDArray[np.int64]] = {}
    factors: dict[str, NDArray[np.float64]] = {}
    for symbol, ls in data.basis.shells.items():
        first = np.cumsum([0, *(2 * l + 1 for l in ls)])[:-1]
        orders[symbol] = np.concatenate(
            [begin + np.array(permutations_by_l[l]) for begin, l in zip(first, ls, strict=True)]
        )
        factors[symbol] = np.concatenate([np.array(signs_by_l[l], dtype=np.float64) for l in ls])
    copies = np.arange(data.spin.multiplicity)[:, None]
    spin_orders = {s: (order + copies * len(order)).ravel() for s, order in orders.items()}
    spin_factors = {s: np.tile(factor, data.spin.multiplicity) for s, factor in factors.items()}
    return replace(
        data,
        hamiltonian=_permuted_rows(data, data.hamiltonian, spin_orders, spin_factors),
        overlap=_permuted_rows(data, data.overlap, orders, factors),
    )


def with_common_pairs(data: RealSpaceHamiltonian) -> RealSpaceHamiltonian:
    """H and S on the same atom pairs: those of H, then those that S alone has; a missing block is zero.

    Both directions matter: H reaches beyond S where nonlocal projectors join orbitals that do not overlap.
    """
    H, S = data.hamiltonian, data.overlap
    if H is None or S is None or np.array_equal(H.atom_pairs, S.atom_pairs):
        return data
    only_overlap = match_pairs(H.atom_pairs, S.atom_pairs) < 0
    pairs = np.concatenate([H.atom_pairs, S.atom_pairs[only_overlap]])
    if only_overlap.any():
        H = H.aligned_to(pairs, data.rows_per_atom)
    return replace(data, hamiltonian=H, overlap=S.aligned_to(pairs, data.orbitals_per_atom))


def shifted(data: RealSpaceHamiltonian, energy: float) -> RealSpaceHamiltonian:
    """H + energy * S, with the Fermi level moved along: the same physics with another zero of energy.

    :param energy: eV.
    :raises DataError: H or S is missing.
    """
    data = with_common_pairs(data)
    if data.hamiltonian is None:
        raise DataError("no Hamiltonian in this data", remedy="give a folder with hamiltonian.h5")
    fermi_energy = None if data.fermi_energy is None else data.fermi_energy + energy
    return replace(data, hamiltonian=data.hamiltonian + energy * data.overlap_with_spin, fermi_energy=fermi_energy)


def gauge_of(data: RealSpaceHamiltonian) -> float:
    """mu = (H . S) / (S . S) in eV, the products over all entries: the multiple of S that is closest to H.

    H - mu S does not depend on the arbitrary zero of energy of a calculation.

    :raises DataError: H or S is missing.
    """
    data = with_common_pairs(data)
    if data.hamiltonian is None:
        raise DataError("no Hamiltonian in this data", remedy="give a folder with hamiltonian.h5")
    S = data.overlap_with_spin.entries
    return float(np.vdot(S, data.hamiltonian.entries).real / np.vdot(S, S).real)


def without_gauge(data: RealSpaceHamiltonian) -> tuple[RealSpaceHamiltonian, float]:
    """H - mu S with mu of `gauge_of`, and mu in eV; `shifted(result, mu)` gives the data back."""
    mu = gauge_of(data)
    return shifted(data, -mu), mu


def _angular_momenta(data: RealSpaceHamiltonian) -> list[int]:
    return sorted({l for ls in data.basis.shells.values() for l in ls})


def _permuted_rows(
    data: RealSpaceHamiltonian,
    matrix: BlockSparseMatrix | None,
    orders: Mapping[str, NDArray[np.int64]],
    factors: Mapping[str, NDArray[np.float64]],
) -> BlockSparseMatrix | None:
    """Rows and columns of every block permuted, all blocks of one pair of elements at once.

    :param orders: element -> old row of each new row of an atom.
    :param factors: element -> factor of each new row of an atom.
    """
    if matrix is None:
        return None
    elements = data.structure.elements
    index = {symbol: n for n, symbol in enumerate(elements)}
    kinds = np.array([index[symbol] for symbol in data.structure.symbols], dtype=np.int64)
    pair_kinds = kinds[matrix.atom_pairs[:, 3]] * len(elements) + kinds[matrix.atom_pairs[:, 4]]
    entries = np.empty_like(matrix.entries)
    for kind, pairs in equal_kinds(pair_kinds):
        a, b = (elements[n] for n in divmod(kind, len(elements)))
        source = (orders[a][:, None] * len(orders[b]) + orders[b]).ravel()
        factor = (factors[a][:, None] * factors[b]).ravel()
        begin = matrix.chunk_boundaries[pairs, None]
        entries[begin + np.arange(len(source))] = matrix.entries[begin + source] * factor
    return matrix.with_entries(entries)
