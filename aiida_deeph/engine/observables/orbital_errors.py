"""Errors of a predicted Hamiltonian of a molecule in the measures of the field: H by blocks, levels, orbitals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aiida_deeph.engine.domain.hamiltonian import RealSpaceHamiltonian
from aiida_deeph.engine.errors import DataError
from aiida_deeph.engine.linalg.bloch import bloch_matrices
from aiida_deeph.engine.linalg.dense import solve_dense
from aiida_deeph.engine.observables.levels import GAMMA, filled, frontier, unpaired_of
from aiida_deeph.engine.units import HARTREE_TO_EV

Real = NDArray[np.float64]

# Measures in eV, which publications give in 1e-6 Hartree; the others are shares.
ENERGIES = ("hamiltonian", "same_atom", "different_atoms", "occupied_levels", "homo", "lumo", "gap")


def orbital_errors(found: RealSpaceHamiltonian, reference: RealSpaceHamiltonian) -> dict[str, float]:
    """Mean |error| of H over all entries, those of an atom with itself, and those of two atoms; of the occupied levels;
    |error| of HOMO, LUMO and gap (eV); mean |cosine| of occupied orbitals by coefficients and by S.

    As in the benchmark of Yu et al., NeurIPS 2023 (arXiv 2306.09549), sec. 4. Orbitals of equal energy mix freely:
    their cosines say nothing.

    :param found: H on the pairs of the reference; S, electrons and structure are those of the reference.
    :raises DataError: H, S or the number of electrons is missing.
    """
    H, expected, electrons = found.hamiltonian, reference.hamiltonian, reference.n_electrons
    if H is None or expected is None or electrons is None:
        raise DataError("molecule cannot be judged", expected="H, S and the number of electrons")
    error, pairs = np.abs(H.entries - expected.entries), expected.atom_pairs
    own = (pairs[:, 3] == pairs[:, 4])[expected.pair_of_entry]
    result = {"hamiltonian": float(error.mean()), "same_atom": float(error[own].mean())}
    if not own.all():
        result["different_atoms"] = float(error[~own].mean())
    ours, theirs = bloch_matrices(found, "prediction"), bloch_matrices(reference, "label")
    solved = [
        [solve_dense(*matrices.at(GAMMA, channel), vectors=True) for channel in range(matrices.n_channels)]
        for matrices in (ours, theirs)
    ]
    energies = [np.array([states.energies for states in side]) for side in solved]
    full, unpaired = reference.spin.electrons_per_state, unpaired_of(reference)
    occupations = [filled(values, electrons, full, unpaired) for values in energies]
    occupied = occupations[1] > 1e-9
    result["occupied_levels"] = float(np.abs(energies[0] - energies[1])[occupied].mean())
    edges = [frontier(values, filling) for values, filling in zip(energies, occupations, strict=True)]
    differences = {}
    for place, name in enumerate(("homo", "lumo")):
        ends = [values[side[place]] for values, side in zip(energies, edges, strict=True) if side[place] is not None]
        if len(ends) == 2:
            differences[name] = float(ends[0] - ends[1])
    if len(differences) == 2:
        differences["gap"] = differences["lumo"] - differences["homo"]
    result |= {name: abs(value) for name, value in differences.items()}
    plain, by_overlap = [], []
    for channel, (mine, label) in enumerate(zip(*solved, strict=True)):
        c, d = (states.vectors[:, occupied[channel]] for states in (mine, label) if states.vectors is not None)
        S = theirs.at(GAMMA, channel)[1]
        plain.append(_cosines(c, d))
        by_overlap.append(np.abs(np.einsum("in,in->n", c.conj(), S @ d)))
    result["orbitals"] = float(np.concatenate(plain).mean())
    result["orbitals_by_overlap"] = float(np.concatenate(by_overlap).mean())
    return result


def _cosines(a: NDArray[Any], b: NDArray[Any]) -> Real:
    """|cos| of the angle between columns, shape (n_columns,)."""
    product = np.abs(np.einsum("in,in->n", a.conj(), b))
    return np.asarray(product / (np.linalg.norm(a, axis=0) * np.linalg.norm(b, axis=0)))


def mean_errors(members: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Means over the members of every measure: energies also in 1e-6 Hartree, as `NAME_uHartree`."""
    done = [one for one in members.values() if "error" not in one]
    names = dict.fromkeys(name for one in done for name in one)
    means = {name: float(np.mean([one[name] for one in done if name in one])) for name in names}
    energies = {name: value for name, value in means.items() if name in ENERGIES}
    return {
        **{f"{name}_eV" if name in energies else name: value for name, value in means.items()},
        **{f"{name}_uHartree": 1e6 * value / HARTREE_TO_EV for name, value in energies.items()},
        "n_members": len(done),
        "n_failed": len(members) - len(done),
    }
