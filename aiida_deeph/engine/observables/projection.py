"""What a density of states is resolved by: angular momenta of elements, and chosen atoms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from aiida_deeph.engine.domain.basis import SpinMode
from aiida_deeph.engine.domain.hamiltonian import RealSpaceHamiltonian
from aiida_deeph.engine.errors import InputError

LETTERS = "spdfghi"


@dataclass(frozen=True)
class Projection:
    """Groups of rows of H(k): first (element, angular momentum) pairs, then chosen atoms.

    :param shells: (element, l) of each of the first groups.
    :param atoms: index of the atom of each of the others.
    :param matrix: 1 where a row belongs to a group, shape (n_groups, n_rows).
    """

    shells: tuple[tuple[str, int], ...]
    atoms: tuple[int, ...]
    matrix: sp.csr_matrix

    def __len__(self) -> int:
        return len(self.shells) + len(self.atoms)

    def shares(self, vectors: NDArray[Any], overlap: sp.csr_matrix) -> NDArray[np.float64]:
        """Mulliken share of each group in each state, sum over its rows of Re c^* (S c), shape (n_states, n_groups)."""
        return np.asarray((self.matrix @ (vectors.conj() * (overlap @ vectors)).real).T)

    def rows_of_atoms(self) -> NDArray[np.int64]:
        """Rows of the chosen atoms, one atom after the other."""
        return np.asarray(self.matrix[len(self.shells) :].indices, dtype=np.int64)

    def named(self, columns: NDArray[np.float64]) -> dict[str, Any]:
        """Curves of all groups by name.

        :param columns: shape (n_points, n_groups).
        :return: `dos_by_element`, `dos_by_shell` (element -> letter of l -> curve), `dos_by_atom` (index -> curve).
        """
        by_element: dict[str, NDArray[np.float64]] = {}
        by_shell: dict[str, dict[str, list[float]]] = {}
        for (element, l), column in zip(self.shells, columns.T, strict=False):
            by_element[element] = by_element.get(element, 0.0) + column
            by_shell.setdefault(element, {})[LETTERS[l]] = column.tolist()
        by_atom = {str(a): columns[:, len(self.shells) + n].tolist() for n, a in enumerate(self.atoms)}
        return {
            "dos_by_element": {element: curve.tolist() for element, curve in by_element.items()} or None,
            "dos_by_shell": by_shell or None,
            "dos_by_atom": by_atom or None,
        }


def projection(data: RealSpaceHamiltonian, *, shells: bool, atoms: Sequence[int] = ()) -> Projection:
    """Groups of the rows of one spin channel.

    :param shells: resolve by element and angular momentum.
    :param atoms: resolve these atoms, too.
    :raises InputError: no such atom.
    """
    n_atoms = len(data.structure)
    wrong = [atom for atom in atoms if not 0 <= atom < n_atoms]
    if wrong:
        raise InputError("no such atom", where="atoms", found=wrong[0], expected=f"0 to {n_atoms - 1}")
    copies = 2 if data.spin is SpinMode.NONCOLLINEAR else 1
    l_of_orbital = {
        element: np.tile([l for l in data.basis.shells_of(element) for _ in range(2 * l + 1)], copies)
        for element in data.structure.elements
    }
    l_of_row = np.concatenate([l_of_orbital[symbol] for symbol in data.structure.symbols])
    atom_of_row = np.repeat(np.arange(n_atoms), data.orbitals_per_atom * copies)
    kinds = [(e, l) for e in data.structure.elements for l in sorted(set(l_of_orbital[e]))] if shells else []
    element_of_row = np.array(data.structure.symbols)[atom_of_row]
    members = [np.flatnonzero((element_of_row == e) & (l_of_row == l)) for e, l in kinds]
    members += [np.flatnonzero(atom_of_row == atom) for atom in atoms]
    pointers = np.concatenate([[0], np.cumsum([len(rows) for rows in members])]).astype(np.int64)
    indices = np.concatenate([*members, np.zeros(0, dtype=np.int64)]).astype(np.int64)
    matrix = sp.csr_matrix((np.ones(len(indices)), indices, pointers), shape=(len(members), len(atom_of_row)))
    return Projection(tuple((e, int(l)) for e, l in kinds), tuple(atoms), matrix)
