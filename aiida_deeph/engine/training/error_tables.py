"""Errors of predicted Hamiltonians, resolved by member, by orbital pair and by distance."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aiida_deeph.engine.domain.basis import OrbitalBasis
from aiida_deeph.engine.domain.blocksparse import BlockSparseMatrix
from aiida_deeph.engine.domain.structure import Structure

Floats = NDArray[np.float64]

#: Width of a distance bin, Angstrom.
BIN_WIDTH = 1.0


class ErrorTables:
    """Sums of |dH| over many members.

    Orbital tables have rows for the orbitals of element i and columns for those of element j; spin blocks are summed.

    :param basis: of the model.
    :param largest_distance: of a pair, Angstrom; longer ones fall in the last bin.
    """

    def __init__(self, basis: OrbitalBasis, largest_distance: float) -> None:
        self._basis = basis
        self._elements = basis.elements
        sizes = [basis.n_orbitals(symbol) for symbol in self._elements]
        self._first = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        self._sizes = np.array(sizes, dtype=np.int64)
        n = int(self._first[-1])
        self._sum, self._count, self._max = np.zeros(n * n), np.zeros(n * n, dtype=np.int64), np.zeros(n * n)
        # Bin 0 holds the on-site blocks, bin b > 0 distances in ((b - 1) w, b w].
        n_bins = 1 + max(1, int(np.ceil(largest_distance / BIN_WIDTH - 1e-9)))
        self._bin_sum, self._bin_square, self._bin_count, self._bin_max, self._bin_size = np.zeros((5, n_bins))
        self.members: dict[str, dict[str, float | int]] = {}

    def add(self, name: str, structure: Structure, predicted: BlockSparseMatrix, label: BlockSparseMatrix) -> None:
        """Add one member; both matrices have the same pairs, entries in eV."""
        error = np.abs(predicted.entries - label.entries)
        pair = label.pair_of_entry
        kinds = np.array([self._elements.index(s) for s in structure.symbols], dtype=np.int64)
        rows, columns = label.entry_positions()
        kind_i, kind_j = kinds[label.atom_pairs[:, 3]], kinds[label.atom_pairs[:, 4]]
        # Spin-major rows: the orbital is the row modulo the number of orbitals.
        row = rows % self._sizes[kind_i][pair] + self._first[kind_i][pair]
        column = columns % self._sizes[kind_j][pair] + self._first[kind_j][pair]
        place = row * int(self._first[-1]) + column
        n = len(self._sum)
        self._sum += np.bincount(place, weights=error, minlength=n)
        self._count += np.bincount(place, minlength=n)
        np.maximum.at(self._max, place, error)

        distance = np.linalg.norm(structure.pair_vectors(label.atom_pairs), axis=1)
        self_pair = (label.atom_pairs[:, 3] == label.atom_pairs[:, 4]) & ~label.atom_pairs[:, :3].any(axis=1)
        bins = np.clip(np.ceil(distance / BIN_WIDTH - 1e-9), 1, len(self._bin_sum) - 1).astype(np.int64)
        place = np.where(self_pair, 0, bins)[pair]
        n = len(self._bin_sum)
        self._bin_sum += np.bincount(place, weights=error, minlength=n)
        self._bin_square += np.bincount(place, weights=error**2, minlength=n)
        self._bin_count += np.bincount(place, minlength=n)
        self._bin_size += np.bincount(place, weights=np.abs(label.entries), minlength=n)
        np.maximum.at(self._bin_max, place, error)
        self.members[name] = {
            "mae_eV": float(error.mean()),
            "max_eV": float(error.max()),
            "rmse_eV": float(np.sqrt(np.square(error).mean())),
            "n_entries": len(error),
        }

    def as_json(self) -> dict[str, Any]:
        """All tables: numbers in eV and Angstrom; null where there are no entries."""
        n_entries = int(self._count.sum())
        squared = sum(m["rmse_eV"] ** 2 * m["n_entries"] for m in self.members.values())
        pairs, orbitals, shells = self._by_orbitals()
        return {
            "mae_eV": float(self._sum.sum() / n_entries),
            "rmse_eV": float(np.sqrt(squared / n_entries)),
            "max_eV": float(self._max.max()),
            "n_entries": n_entries,
            "on_site": self._summary(slice(0, 1)),
            "bonds": self._summary(slice(1, None)),
            "elements": list(self._elements),
            "members": self.members,
            "element_pairs": self._by_elements(),
            "orbital_pairs": pairs,
            "orbital_mae_eV": orbitals,
            "shell_mae_eV": shells,
            "distances": self._by_distance(),
        }

    def _by_elements(self) -> dict[str, dict[str, float | int]]:
        n = int(self._first[-1])
        total, count, largest = (a.reshape(n, n) for a in (self._sum, self._count, self._max))
        table: dict[str, dict[str, float | int]] = {}
        for a, b in itertools.product(range(len(self._elements)), repeat=2):
            window = np.s_[self._first[a] : self._first[a + 1], self._first[b] : self._first[b + 1]]
            n_entries = int(count[window].sum())
            if n_entries:
                table[f"{self._elements[a]}-{self._elements[b]}"] = {
                    "mae_eV": float(total[window].sum() / n_entries),
                    "max_eV": float(largest[window].max()),
                    "n_entries": n_entries,
                }
        return table

    def _by_orbitals(self) -> tuple[dict[str, dict[str, float | int]], dict[str, Any], dict[str, Any]]:
        n = int(self._first[-1])
        total, count, largest = (a.reshape(n, n) for a in (self._sum, self._count, self._max))
        pairs: dict[str, dict[str, float | int]] = {}
        orbitals: dict[str, Any] = {}
        shells: dict[str, Any] = {}
        for a, symbol_a in enumerate(self._elements):
            for b, symbol_b in enumerate(self._elements):
                window = np.s_[self._first[a] : self._first[a + 1], self._first[b] : self._first[b + 1]]
                if not count[window].any():
                    continue
                orbitals[f"{symbol_a}-{symbol_b}"] = _means(total[window], count[window])
                table = []
                for p, place_a in enumerate(self._shell_slices(symbol_a)):
                    line: list[float | None] = []
                    for q, place_b in enumerate(self._shell_slices(symbol_b)):
                        block_count = int(count[window][place_a, place_b].sum())
                        mae = float(total[window][place_a, place_b].sum() / block_count) if block_count else None
                        line.append(mae)
                        if mae is not None:
                            pairs[f"{symbol_a}.{p}-{symbol_b}.{q}"] = {
                                "mae_eV": mae,
                                "max_eV": float(largest[window][place_a, place_b].max()),
                                "n_entries": block_count,
                            }
                    table.append(line)
                shells[f"{symbol_a}-{symbol_b}"] = table
        return pairs, orbitals, shells

    def _shell_slices(self, symbol: str) -> list[slice]:
        ends = np.cumsum([0, *(2 * l + 1 for l in self._basis.shells_of(symbol))]).tolist()
        return [slice(first, last) for first, last in itertools.pairwise(ends)]

    def _summary(self, bins: slice) -> dict[str, float | int] | None:
        """Mean, root mean square and largest error of some bins; None without entries."""
        count = int(self._bin_count[bins].sum())
        if not count:
            return None
        return {
            "mae_eV": float(self._bin_sum[bins].sum() / count),
            "rmse_eV": float(np.sqrt(self._bin_square[bins].sum() / count)),
            "max_eV": float(self._bin_max[bins].max()),
            "n_entries": count,
        }

    def _by_distance(self) -> list[Mapping[str, float | int | None]]:
        table: list[Mapping[str, float | int | None]] = []
        for b, count in enumerate(self._bin_count):
            if count:
                table.append(
                    {
                        "from_A": max(0.0, (b - 1) * BIN_WIDTH),
                        "to_A": b * BIN_WIDTH,
                        "n_entries": int(count),
                        "mae_eV": float(self._bin_sum[b] / count),
                        "rmse_eV": float(np.sqrt(self._bin_square[b] / count)),
                        "max_eV": float(self._bin_max[b]),
                        "mean_abs_label_eV": float(self._bin_size[b] / count),
                    }
                )
        return table


def _means(total: Floats, count: NDArray[np.int64]) -> list[list[float | None]]:
    return [
        [float(t / c) if c else None for t, c in zip(*line, strict=True)] for line in zip(total, count, strict=True)
    ]
