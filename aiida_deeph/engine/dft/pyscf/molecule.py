"""Run PySCF on a molecule in empty space: all electrons or pseudopotentials, hybrids, spins restricted or not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from aiida_deeph.engine.dft.pyscf.config import PyscfConfig
from aiida_deeph.engine.dft.pyscf.cycles import Cycles
from aiida_deeph.engine.dft.pyscf.magnets import found_moments
from aiida_deeph.engine.dft.pyscf.output import Matrices, shells_of
from aiida_deeph.engine.dft.pyscf.shared import build, set_functional, settled
from aiida_deeph.engine.domain.kpoints import check_directions
from aiida_deeph.engine.domain.structure import Structure
from aiida_deeph.engine.errors import InputError
from aiida_deeph.engine.units import HARTREE_TO_EV

Real = NDArray[np.float64]

# k-point of a molecule.
GAMMA = np.zeros((1, 3))


def molecule_results(
    field: Any, kpoints: Real, config: PyscfConfig, cycles: Cycles, report: Callable[[str], None]
) -> tuple[Matrices, dict[str, Any]]:
    """Fock matrix and S of a mean field that has run, and its numbers in the words of `results.json`."""
    mol = field.mol
    H, S = fock_matrices(field, field.make_rdm1()) * HARTREE_TO_EV, np.asarray(field.get_ovlp())
    magnet = {} if config.magnetic_moments is None else found_moments(field, config.magnetic_moments, S[None])
    results: dict[str, Any] = {
        "energy": float(field.e_tot) * HARTREE_TO_EV,
        **edges(field),
        "n_electrons": float(mol.nelectron),
        "charge": config.charge,
        "total_spin_moment": float(mol.spin),
        **magnet,
        "dipole": dipole(field).tolist(),
        "functional": field.xc,
        "n_orbitals": int(mol.nao),
    }
    if config.bands is not None and field.converged:
        levels = [scipy.linalg.eigh(h, S, eigvals_only=True) for h in H]
        energies = [[one.tolist()] * len(config.bands) for one in levels]
        results["bands"] = {"kpoints": np.array(config.bands).tolist(), "energies": energies}
    return Matrices(shells_of(mol), kpoints, [h[None].astype(complex) for h in H], S[None].astype(complex)), results


def build_molecule(structure: Structure, config: PyscfConfig) -> Any:
    """PySCF's molecule.

    :raises InputError: basis or pseudopotential unknown for an element, or electrons that do not pair.
    """
    from pyscf import gto

    if config.bands is not None:
        check_directions(np.array(config.bands), structure.pbc, "bands")
    mol = gto.Mole()
    mol.charge = config.charge
    build(mol, structure, config)
    if (mol.nelectron - config.unpaired_electrons) % 2 or mol.nelectron < max(config.unpaired_electrons, 1):
        raise InputError(
            "odd number of electrons" if not config.unpaired_electrons else "electrons do not pair",
            where=config.structure,
            found=f"{mol.nelectron} electrons, {config.unpaired_electrons} of them unpaired",
            expected="an even number of paired electrons",
            remedy="give unpaired_electrons, or another charge",
        )
    mol.spin = config.unpaired_electrons
    return mol


def is_unrestricted(config: PyscfConfig) -> bool:
    """Whether the spins have orbitals of their own."""
    return config.unrestricted or config.unpaired_electrons > 0 or config.magnetic_moments is not None


def mean_field(mol: Any, config: PyscfConfig) -> Any:
    """RKS, or UKS where spins are unpaired or asked for, with the settings of a configuration.

    :raises InputError: the functional is unknown.
    """
    from pyscf import dft

    field = dft.UKS(mol) if is_unrestricted(config) else dft.RKS(mol)
    set_functional(
        field,
        config,
        lambda kind, known: kind in ("HF", "LDA", "GGA", "MGGA") and not known.is_nlc(config.xc),
        "no nonlocal correlation",
    )
    field.grids.level = config.grid_level
    return settled(field, config)


def fock_matrices(field: Any, density: Real) -> Real:
    """Fock matrix of a density, of each spin, Hartree, shape (1 or 2, n_orbitals, n_orbitals).

    Not that of the last cycle, which DIIS has mixed with those before.
    """
    fock = np.asarray(field.get_hcore()) + np.asarray(field.get_veff(dm=density))
    fock = fock if fock.ndim == 3 else fock[None]
    return (fock + fock.transpose(0, 2, 1)) / 2


def edges(field: Any) -> dict[str, float]:
    """Fermi level (mid-gap), highest occupied and lowest empty level of all spins, eV."""
    energies, occupations = np.ravel(field.mo_energy), np.ravel(field.mo_occ)
    full = 2.0 if np.ndim(field.mo_energy) == 1 else 1.0
    occupied, empty = energies[occupations > full / 2], energies[occupations <= full / 2]
    homo = float(occupied.max())
    lumo = float(empty.min()) if len(empty) else homo
    values = {"fermi_energy": (homo + lumo) / 2, "homo": homo, "lumo": lumo}
    return {name: value * HARTREE_TO_EV for name, value in values.items()}


def dipole(field: Any) -> Real:
    """Dipole moment, of an ion about the centre of its nuclear charges, debye, shape (3,)."""
    from pyscf.data.nist import AU2DEBYE

    mol = field.mol
    charges = mol.atom_charges()
    centre = charges @ mol.atom_coords() / charges.sum()
    moment = np.asarray(field.dip_moment(mol, field.make_rdm1(), unit="AU", verbose=0))
    return np.asarray((moment - mol.charge * centre) * AU2DEBYE)
