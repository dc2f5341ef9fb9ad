"""A crystal at k-points by PySCF: its cell, its mean field, H(k) of the converged potential."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.linalg
import scipy.optimize
import scipy.special
from scipy.spatial import cKDTree

from aiida_deeph.engine.dft.pyscf.config import PyscfConfig
from aiida_deeph.engine.dft.pyscf.cycles import Cycles
from aiida_deeph.engine.dft.pyscf.magnets import found_moments
from aiida_deeph.engine.dft.pyscf.output import Matrices, shells_of
from aiida_deeph.engine.dft.pyscf.shared import build, set_functional, settled
from aiida_deeph.engine.domain.kpoints import mesh_indices
from aiida_deeph.engine.domain.structure import Structure
from aiida_deeph.engine.errors import InputError
from aiida_deeph.engine.units import BOHR_TO_ANGSTROM, HARTREE_TO_EV

# Memory that the orbitals on the grid may take; beyond it PySCF's multigrid integration takes over, GiB.
ORBITAL_MEMORY = 4.0

# A point so far from all atoms is in the vacuum, Angstrom.
VACUUM = 3.5

# k-points of a band structure that are handled at a time.
BAND_BATCH = 8


def crystal_results(
    field: Any, kpoints: np.ndarray, config: PyscfConfig, cycles: Cycles, report: Callable[[str], None]
) -> tuple[Matrices, dict[str, Any]]:
    """H(k) and S(k) of a mean field that has run, and its numbers in the words of `results.json`.

    :param kpoints: of the mesh, fractional, shape (n_kpoints, 3).
    """
    cell = field.cell
    level = vacuum_level(field, config) if config.vacuum_level else 0.0
    matrices = CrystalMatrices(field, cell, cycles.last, level)
    H, S = matrices.hamiltonian(kpoints, on_mesh=True), matrices.overlap(kpoints)
    magnet = {} if config.magnetic_moments is None else found_moments(field, config.magnetic_moments, S)
    fermi, homo, lumo = (energy - level for energy in fermi_energy(field, config))
    results: dict[str, Any] = {
        "energy": float(field.e_tot) * HARTREE_TO_EV,
        "fermi_energy": fermi,
        "homo": homo,
        "lumo": lumo,
        "n_electrons": float(cell.nelectron),
        "n_orbitals": int(cell.nao),
        "grid": [int(n) for n in cell.mesh],
        **magnet,
    }
    if config.bands is not None and field.converged:
        points = np.array(config.bands, dtype=np.float64).reshape(-1, 3)
        results["bands"] = {"kpoints": points.tolist(), "energies": matrices.bands(points, report).tolist()}
    return Matrices(shells_of(cell), kpoints, list(H), S), results


def build_cell(structure: Structure, config: PyscfConfig) -> Any:
    """PySCF's cell.

    :raises InputError: basis or pseudopotential unknown for an element, or an odd number of electrons.
    """
    from pyscf.pbc import gto

    from aiida_deeph.engine.dft.pyscf.grid import grid_mesh

    of_molecules = {"charge": config.charge, "unpaired_electrons": config.unpaired_electrons}
    if config.pseudo is None or any(of_molecules.values()) or config.unrestricted:
        raise InputError(
            "setting of molecules for a periodic structure",
            where=config.structure,
            found=f"pseudo {config.pseudo}, {of_molecules}, unrestricted {config.unrestricted}",
            expected="a pseudopotential, no charge, restricted spins",
            remedy="set pbc to false for a molecule",
        )

    cell = gto.Cell()
    cell.a = structure.cell / BOHR_TO_ANGSTROM
    cell.mesh = grid_mesh(cell.a, config.ke_cutoff)
    build(cell, structure, config)
    if cell.nelectron % 2 and config.magnetic_moments is None:
        raise InputError(
            "odd number of electrons",
            where=config.structure,
            found=cell.nelectron,
            expected="an even number: the calculation is spin-restricted",
            remedy="double the cell, or give magnetic_moments",
        )
    return cell


def mesh_points(config: PyscfConfig) -> np.ndarray:
    """Fractional k-points of the mesh, shape (n_kpoints, 3)."""
    return np.asarray(mesh_indices(config.kmesh) / np.array(config.kmesh))


def crystal_field(cell: Any, fractional: np.ndarray, config: PyscfConfig) -> Any:
    """KRKS with the settings of a configuration.

    :raises InputError: the functional is unknown, or not one for cells.
    """
    from pyscf.pbc import dft
    from pyscf.pbc.dft.multigrid import MultiGridNumInt

    from aiida_deeph.engine.dft.pyscf.grid import GridNumInt, orbital_memory

    kpts = cell.get_abs_kpts(fractional)
    field = dft.KRKS(cell, kpts) if config.magnetic_moments is None else dft.KUKS(cell, kpts)
    set_functional(
        field,
        config,
        lambda kind, known: kind in ("LDA", "GGA") and not known.is_hybrid_xc(config.xc),
        "an LDA or a GGA, no hybrid",
    )
    if orbital_memory(cell.nao, int(np.prod(cell.mesh)), len(kpts) // 2 + 1) <= ORBITAL_MEMORY:
        field._numint = GridNumInt(cell)
        field._numint.keep(kpts)
    else:
        field._numint = MultiGridNumInt(cell)
    return settled(field, config)


def point_in_vacuum(cell: Any, structure: Structure) -> int:
    """Place of the grid point farthest from all atoms.

    :raises InputError: the structure is periodic along all directions, or atoms are near everywhere.
    """
    shifts = np.stack(np.meshgrid(*[(-1, 0, 1)] * 3, indexing="ij"), axis=-1).reshape(-1, 3) @ structure.cell
    images = (structure.positions[:, None] + shifts).reshape(-1, 3)
    distances = cKDTree(images).query(cell.get_uniform_grids(cell.mesh) * BOHR_TO_ANGSTROM)[0]
    if all(structure.pbc) or distances.max() < VACUUM:
        raise InputError(
            "no vacuum level",
            where="vacuum_level",
            found=f"pbc {structure.pbc}, atoms at most {distances.max():.1f} Angstrom away",
            expected=f"a direction without periodicity, and a point {VACUUM:g} Angstrom from all atoms",
        )
    return int(distances.argmax())


def vacuum_level(field: Any, config: PyscfConfig) -> float:
    """Electrostatic potential farthest from all atoms, eV.

    :raises InputError: the orbitals do not fit in memory.
    """
    from aiida_deeph.engine.dft.pyscf.grid import GridNumInt

    cell, integration = field.cell, field._numint
    if not isinstance(integration, GridNumInt):
        raise InputError("orbitals do not fit in memory", where="vacuum_level", remedy="a smaller cell or ke_cutoff")
    symbols = tuple(cell.atom_symbol(n) for n in range(cell.natm))
    positions, lattice = cell.atom_coords() * BOHR_TO_ANGSTROM, cell.lattice_vectors() * BOHR_TO_ANGSTROM
    density = np.asarray(field.make_rdm1())
    density = density if density.ndim == 3 else density.sum(axis=0)
    potential = integration.electrostatic(integration.density(density, field.kpts))
    place = point_in_vacuum(cell, Structure(symbols, positions, lattice, (True, True, False)))
    return float(potential[place]) * HARTREE_TO_EV


def fermi_energy(field: Any, config: PyscfConfig) -> tuple[float, float, float]:
    """Fermi level (mid-gap if there is a gap), highest occupied and lowest unoccupied energy, eV."""
    energies, occupations = np.ravel(field.mo_energy), np.ravel(field.mo_occ)
    full = 2.0 if np.ndim(field.mo_energy) == 2 else 1.0
    occupied, empty = energies[occupations > full / 2], energies[occupations <= full / 2]
    homo, lumo = float(occupied.max()), float(empty.min()) if len(empty) else float(occupied.max())
    mu = (homo + lumo) / 2
    if config.smearing is not None:
        # PySCF prints its chemical potential but does not keep it: solved again from the number of electrons.
        width, electrons = config.smearing / HARTREE_TO_EV, float(occupations.sum())
        mu = scipy.optimize.brentq(
            lambda level: float((full * scipy.special.expit((level - energies) / width)).sum()) - electrons,
            homo - 100 * width,
            lumo + 100 * width,
        )
    return float(mu) * HARTREE_TO_EV, homo * HARTREE_TO_EV, lumo * HARTREE_TO_EV


class CrystalMatrices:
    """H(k) in eV and S(k) from the converged potential, at any k-point.

    :param level: of the potential that becomes the zero of energy, eV.
    """

    def __init__(self, field: Any, cell: Any, last: dict[str, Any], level: float = 0.0) -> None:
        self.field, self.cell, self.last, self.level = field, cell, last, level

    def hamiltonian(self, fractional: np.ndarray, on_mesh: bool = False) -> np.ndarray:
        """H(k) in eV of each spin (one, or two), shape (n_spins, n_kpoints, n_orbitals, n_orbitals), complex."""
        from aiida_deeph.engine.dft.pyscf.grid import GridNumInt

        if on_mesh:
            # Not the Fock matrix of the last cycle, which DIIS has mixed with those before.
            H = np.asarray(self.last["h1e"]) + np.asarray(self.last["vhf"])
        else:
            kpts = self.cell.get_abs_kpts(fractional)
            field, integration = self.field, self.field._numint
            if isinstance(integration, GridNumInt):
                integration.keep(np.concatenate([field.kpts, kpts]))
            H = np.asarray(field.get_hcore(self.cell, kpts))
            H = H + np.asarray(field.get_veff(self.cell, field.make_rdm1(), kpts=field.kpts, kpts_band=kpts))
            if isinstance(integration, GridNumInt):
                integration.keep(field.kpts)
        H = np.asarray(H, dtype=np.complex128)
        H = H if H.ndim == 4 else H[None]
        H = (H + H.conj().transpose(0, 1, 3, 2)) * (HARTREE_TO_EV / 2)
        return H - self.level * self.overlap(fractional) if self.level else H

    def overlap(self, fractional: np.ndarray) -> np.ndarray:
        """S(k), shape (n_kpoints, n_orbitals, n_orbitals), complex."""
        kpts = self.cell.get_abs_kpts(fractional)
        return np.asarray(self.cell.pbc_intor("int1e_ovlp", hermi=1, kpts=kpts), dtype=np.complex128)

    def bands(self, fractional: np.ndarray, report: Callable[[str], None]) -> np.ndarray:
        """Eigenvalues in eV, shape (n_kpoints, n_orbitals), with spins (2, n_kpoints, n_orbitals)."""
        energies = []
        for begin in range(0, len(fractional), BAND_BATCH):
            points = fractional[begin : begin + BAND_BATCH]
            H, S = self.hamiltonian(points), self.overlap(points)
            energies.append(
                [[scipy.linalg.eigh(h, s, eigvals_only=True) for h, s in zip(one, S, strict=True)] for one in H]
            )
            report(f"bands {min(begin + BAND_BATCH, len(fractional))} of {len(fractional)} k-points")
        found = np.concatenate(energies, axis=1)
        return found if len(found) > 1 else found[0]
