"""One step without self-consistency: from a Hamiltonian to its density, to the Hamiltonian of that density.

What a predicted H is worth, without knowing the converged one: the two are equal at self-consistency, and two energies
of the density differ by as much as the energy is uncertain. The density is also the start of an SCF.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aiida_deeph.engine.dft.pyscf.config import PyscfConfig
from aiida_deeph.engine.dft.pyscf.crystal import build_cell, crystal_field, mesh_points, point_in_vacuum
from aiida_deeph.engine.dft.pyscf.magnets import fixed_occupations, polarised
from aiida_deeph.engine.dft.pyscf.molecule import GAMMA, build_molecule, is_unrestricted, mean_field
from aiida_deeph.engine.dft.pyscf.output import Matrices, PyscfOutput, shells_of, spin_rows
from aiida_deeph.engine.dft.pyscf.reader import real_space
from aiida_deeph.engine.domain.basis import OrbitalBasis, SpinMode
from aiida_deeph.engine.domain.blocksparse import BlockSparseMatrix
from aiida_deeph.engine.domain.convention import LIBCINT
from aiida_deeph.engine.domain.hamiltonian import RealSpaceHamiltonian
from aiida_deeph.engine.domain.structure import Structure
from aiida_deeph.engine.domain.transforms import to_convention
from aiida_deeph.engine.errors import DataError, InputError
from aiida_deeph.engine.units import HARTREE_TO_EV

Complex = NDArray[Any]

# Atoms that stand closer are the same, Angstrom.
SAME_PLACE = 1e-3


@dataclass(frozen=True)
class OneStep:
    """What one step from a Hamiltonian gives.

    :param hamiltonian: H of the density that the given H has, eV, on its own pairs.
    :param residual: that minus the given H, eV, on the pairs of either; zero at self-consistency.
    :param energy: Kohn-Sham energy of the density, eV: above the converged one, by second order of its error.
    :param harris_energy: Harris-Foulkes energy with that density as input, eV: off by second order, too, of the other
        sign as a rule (Harris, Phys. Rev. B 31, 1770 (1985); Foulkes and Haydock, Phys. Rev. B 39, 12520 (1989)).
    """

    hamiltonian: RealSpaceHamiltonian
    residual: BlockSparseMatrix
    energy: float
    harris_energy: float

    def numbers(self) -> dict[str, float]:
        """For `results.json`, eV."""
        size = np.abs(self.residual.entries)
        return {
            "energy": self.energy,
            "harris_energy": self.harris_energy,
            "residual_mean": float(size.mean()),
            "residual_max": float(size.max()),
        }


class Calculation:
    """A mean field of PySCF and its k-points, before its first cycle.

    :raises InputError: structure and settings do not fit.
    """

    def __init__(self, structure: Structure, config: PyscfConfig) -> None:
        self.structure, self.config, self.periodic = structure, config, any(structure.pbc)
        if self.periodic:
            self.system, self.kpoints = build_cell(structure, config), mesh_points(config)
            if config.vacuum_level:
                point_in_vacuum(self.system, structure)
            self.field = crystal_field(self.system, self.kpoints, config)
            moments = config.magnetic_moments
            if moments is not None and self.own_start() is not None and config.smearing is None:
                self.field.nelec = fixed_occupations(self.system.nelectron, moments, len(self.kpoints))
        else:
            self.system, self.kpoints = build_molecule(structure, config), GAMMA
            self.field = mean_field(self.system, config)
        # Its checkpoint of every cycle is of no use here.
        self.field._chkfile.close()
        self.field.chkfile = None

    @property
    def unrestricted(self) -> bool:
        """Whether H has two spins."""
        return is_unrestricted(self.config)

    def density_of(self, data: RealSpaceHamiltonian) -> Complex:
        """Density matrix of the lowest states of H, as PySCF holds it.

        :param data: H of the same structure and basis, atoms in any order.
        :raises DataError: it is of another structure, basis or spin.
        """
        basis = OrbitalBasis({symbol: tuple(ls) for symbol, ls in shells_of(self.system).items()})
        data = ordered_like(data, self.structure)
        if any(data.basis.shells_of(symbol) != basis.shells_of(symbol) for symbol in self.structure.elements):
            raise DataError("H is of another basis", found=dict(data.basis.shells), expected=dict(basis.shells))
        if data.spin not in (SpinMode.NONE, SpinMode.COLLINEAR if self.unrestricted else SpinMode.NONE):
            raise DataError("H is of another spin", found=data.spin, expected="none, or collinear for open shells")
        return self.density(spin_matrices(data, self.kpoints) / HARTREE_TO_EV)

    def density(self, matrices: Complex) -> Complex:
        """Density matrix of the lowest states.

        :param matrices: H(k) in Hartree, PySCF's order, shape (n_spins, n_kpoints, n_orbitals, n_orbitals).
        """
        if self.unrestricted:
            H = np.broadcast_to(matrices, (2, *matrices.shape[1:]))
            H = H if self.periodic else H[:, 0].real
        else:
            H = matrices[0] if self.periodic else matrices[0, 0].real
        energies, vectors = self.field.eig(H, self.field.get_ovlp())
        return np.asarray(self.field.make_rdm1(vectors, self.field.get_occ(energies, vectors)))

    def step(self, data: RealSpaceHamiltonian) -> tuple[OneStep, Complex]:
        """One step from H, and the density matrix on the way.

        :raises InputError: H is to be on another zero of energy than that of a step.
        """
        if self.config.vacuum_level:
            raise InputError("a step has PySCF's own zero of energy", where="vacuum_level", remedy="leave it out")
        density = self.density_of(data)
        core, potential = self.field.get_hcore(), self.field.get_veff(dm=density)
        fock = np.asarray(core) + np.asarray(potential)
        fock = (fock + fock.conj().swapaxes(-1, -2)) / 2
        energy = float(np.real(self.field.energy_tot(density, core, potential)))
        matrices = fock if self.unrestricted else fock[None]
        matrices = matrices if self.periodic else matrices[:, None]
        # E_HF[rho] = E_KS[rho] + tr (D' - D) H[rho], D' of H[rho].
        change = self.density(matrices) - density
        first_order = float(np.real(np.sum(change * fock.conj()))) / len(self.kpoints)
        new = self._in_real_space(matrices * HARTREE_TO_EV)
        given = ordered_like(data, self.structure).hamiltonian
        assert given is not None and new.hamiltonian is not None
        residual = difference(new.hamiltonian, given, new.rows_per_atom)
        return OneStep(new, residual, energy * HARTREE_TO_EV, (energy + first_order) * HARTREE_TO_EV), density

    def own_start(self) -> Complex | None:
        """Density matrix in which each atom has its initial moment; None leaves the start to PySCF."""
        moments = self.config.magnetic_moments
        if moments is None:
            return None
        return polarised(self.system, np.asarray(self.field.get_init_guess(key="minao")), moments)

    def start_hamiltonian(self) -> RealSpaceHamiltonian:
        """H and S of the density that an SCF starts from by itself, a superposition of atoms in a minimal basis."""
        density = self.field.get_init_guess(key="minao")
        fock = np.asarray(self.field.get_hcore()) + np.asarray(self.field.get_veff(dm=density))
        matrices = fock if self.unrestricted else fock[None]
        return self._in_real_space((matrices if self.periodic else matrices[:, None]) * HARTREE_TO_EV)

    def _in_real_space(self, matrices: Complex) -> RealSpaceHamiltonian:
        overlap = np.asarray(self.field.get_ovlp(), dtype=np.complex128)
        overlap = overlap if self.periodic else overlap[None]
        found = Matrices(shells_of(self.system), self.kpoints, list(matrices.astype(np.complex128)), overlap)
        return real_space(PyscfOutput.of(self.structure, found, {"settings": {"kmesh": self.config.kmesh}}), {})


def one_step(data: RealSpaceHamiltonian, config: PyscfConfig) -> OneStep:
    """One step without self-consistency from H of a molecule or of a crystal with a k-mesh.

    :param data: H in the basis of the configuration; S is not needed.
    :param config: functional, basis, k-mesh, grids; its structure is not read.
    :raises InputError: structure and settings do not fit.
    :raises DataError: H is missing, or of another basis or spin.
    """
    return Calculation(data.structure, config).step(data)[0]


def start_hamiltonian(structure: Structure, settings: Mapping[str, Any]) -> RealSpaceHamiltonian:
    """H of the density that an SCF starts from, with the settings of labels; see `Calculation.start_hamiltonian`."""
    known = {name: settings[name] for name in PyscfConfig.model_fields if name in settings}
    return Calculation(structure, PyscfConfig(**{"pseudo": None, **known})).start_hamiltonian()


def ordered_like(data: RealSpaceHamiltonian, structure: Structure) -> RealSpaceHamiltonian:
    """Data with the atoms in the order of a structure.

    :raises DataError: it is another one, or H is missing.
    """
    if data.hamiltonian is None:
        raise DataError("no Hamiltonian to start from")
    order = []
    for symbol, position in zip(structure.symbols, structure.positions, strict=True):
        away = np.linalg.norm(data.structure.positions - position, axis=1)
        away[np.array(data.structure.symbols) != symbol] = np.inf
        order.append(int(np.argmin(away)))
        if away[order[-1]] > SAME_PLACE:
            raise DataError("H is of another structure", found=f"no {symbol} at {np.round(position, 4).tolist()}")
    if len(set(order)) != len(data.structure):
        raise DataError("H is of another structure", found=f"{len(data.structure)} atoms", expected=len(structure))
    same = order == list(range(len(order)))
    return data if same else data.permuted(np.array(order, dtype=np.int64))


def spin_matrices(data: RealSpaceHamiltonian, kpoints: NDArray[np.float64]) -> Complex:
    """H(k) in eV of each spin in PySCF's order, shape (1 or 2, n_kpoints, n_orbitals, n_orbitals).

    :param kpoints: fractional, shape (n_kpoints, 3).
    """
    if data.spin is SpinMode.NONCOLLINEAR:
        raise InputError("noncollinear H", expected="H without spin, or collinear")
    turned = to_convention(data, LIBCINT)
    H = np.stack([turned.hamiltonian_at(k).toarray() for k in kpoints]).astype(np.complex128)
    if data.spin is SpinMode.NONE:
        return H[None]
    return np.stack([H[:, rows[:, None], rows] for rows in spin_rows(data.orbitals_per_atom)])


def difference(a: BlockSparseMatrix, b: BlockSparseMatrix, rows_per_atom: NDArray[np.int64]) -> BlockSparseMatrix:
    """a - b on the pairs of either."""
    pairs = np.unique(np.concatenate([a.atom_pairs, b.atom_pairs]), axis=0)
    first, second = (matrix.aligned_to(pairs, rows_per_atom) for matrix in (a, b))
    return first.with_entries(first.entries - second.entries)
