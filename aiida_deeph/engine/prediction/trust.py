"""How far a prediction can be trusted: what errors the network expects, and which atoms lie outside its data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

LISTED = 1000
"""Atoms that are told of one by one in the report."""


@dataclass(frozen=True)
class Trust:
    """Of each atom pair, filled while its block is predicted; NaN where the network does not know.

    :param expected_error: mean |error| of the entries of its block, shape (n_pairs,), eV.
    :param outside: 1 if nothing like it was in the training data, else 0; shape (n_pairs,).
    """

    expected_error: NDArray[np.float64]
    outside: NDArray[np.float64]

    @classmethod
    def empty(cls, n_pairs: int) -> Trust:
        """Nothing is known yet."""
        return cls(np.full(n_pairs, np.nan), np.full(n_pairs, np.nan))

    @classmethod
    def of_channels(cls, values: Sequence[NDArray[np.float64]]) -> Trust:
        """Of all spin channels together, from the expected errors of each, then whether each is outside."""
        errors, outside = np.split(np.array(values), 2)
        return cls(errors.mean(axis=0), outside.max(axis=0))

    def summary(self, atom_pairs: NDArray[np.int64], orbitals: NDArray[np.int64]) -> dict[str, Any]:
        """For `prediction.json`: nothing if the network does not know.

        :param atom_pairs: rows (R1, R2, R3, i, j), shape (n_pairs, 5).
        :param orbitals: rows of H of each atom, shape (n_atoms,).
        """
        if not len(self.outside) or np.isnan(self.expected_error).any():
            return {}
        i, j = atom_pairs[:, 3], atom_pairs[:, 4]
        sizes = orbitals[i] * orbitals[j]
        on_site = (i == j) & ~atom_pairs[:, :3].any(axis=1)
        share = np.bincount(i, self.outside, len(orbitals)) / np.maximum(np.bincount(i, minlength=len(orbitals)), 1)
        outside = share > 0.5
        outside[i[on_site & (self.outside > 0)]] = True
        atoms = np.flatnonzero(outside)
        count = np.bincount(i, sizes, len(orbitals))
        by_atom = np.bincount(i, sizes * self.expected_error, len(orbitals)) / np.maximum(count, 1)
        listed = {"expected_mae_by_atom_eV": by_atom.tolist()} if len(orbitals) <= LISTED else {}
        return {
            **listed,
            "expected_mae_eV": float(np.average(self.expected_error, weights=sizes)),
            "largest_expected_error_eV": float(self.expected_error.max()),
            "n_pairs_outside": int(self.outside.sum()),
            "n_atoms_outside": len(atoms),
            "atoms_outside": atoms[:LISTED].tolist(),
        }
