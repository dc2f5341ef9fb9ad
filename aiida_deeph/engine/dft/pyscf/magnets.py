"""Initial and converged spin moments of a calculation of PySCF."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aiida_deeph.engine.errors import InputError


def polarised(mol: Any, density: NDArray[Any], moments: Sequence[float]) -> NDArray[Any]:
    """A density matrix of two spins in which each atom has its moment.

    :param density: of both spins, shape (2, ..., n_orbitals, n_orbitals), as alike as they may be.
    :param moments: of the atoms, Bohr magnetons.
    :raises InputError: one of another number of atoms, or larger than the atom's valence.
    """
    if len(moments) != mol.natm:
        raise InputError(
            "moments of another number of atoms", where="magnetic_moments", found=len(moments), expected=mol.natm
        )
    shares, total = [], density.sum(axis=0)
    for atom, (moment, (_, _, first, last)) in enumerate(zip(moments, mol.aoslice_by_atom(), strict=True)):
        valence = float(mol.atom_charge(atom))
        if abs(moment) > valence:
            raise InputError(
                "initial moment exceeds the valence",
                where=f"magnetic_moments, atom {atom} ({mol.atom_symbol(atom)})",
                found=moment,
                expected=f"at most {valence:g} Bohr magnetons",
            )
        shares += [moment / valence] * (last - first)
    share = np.array(shares)
    sides = (share[:, None] + share) / 2
    return np.stack([total * (1 + sides) / 2, total * (1 - sides) / 2])


def fixed_occupations(n_electrons: int, moments: Sequence[float], n_kpoints: int) -> tuple[int, int]:
    """Electrons of each spin at all k-points where nothing smears them: their difference is the sum of the moments.

    :raises InputError: that is no whole number of electron pairs.
    """
    unpaired = round(sum(moments))
    if abs(sum(moments) - unpaired) > 1e-6 or (n_electrons - unpaired) % 2:
        raise InputError(
            "net moment does not fit the electrons",
            where="magnetic_moments",
            found=f"{sum(moments):g} Bohr magnetons of {n_electrons} electrons",
            expected="a whole number, odd if that of the electrons is",
            remedy="set a smearing: the net moment is free then",
        )
    return (n_electrons + unpaired) // 2 * n_kpoints, (n_electrons - unpaired) // 2 * n_kpoints


def found_moments(field: Any, nominal: Sequence[float], overlap: NDArray[Any]) -> dict[str, Any]:
    """Initial moments and those of the converged density, by Mulliken, in the words of `results.json`.

    :param overlap: S(k), shape (n_kpoints, n_orbitals, n_orbitals).
    """
    up, down = np.asarray(field.make_rdm1()).reshape(2, *overlap.shape)
    populations = np.einsum("kij,kji->i", up - down, overlap).real / len(overlap)
    slices = (field.cell if hasattr(field, "cell") else field.mol).aoslice_by_atom()
    moments = [float(populations[first:last].sum()) for _, _, first, last in slices]
    return {"nominal_moments": list(nominal), "spin_moments": moments, "total_spin_moment": float(sum(moments))}
