"""Density and potential on one uniform grid, with the orbitals of each k-point kept in memory.

PySCF's multigrid integration evaluates every orbital again in every cycle. The cells that label a training set are
small: all their Bloch orbitals on the grid fit in memory, and a cycle costs two matrix products per k-point.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from pyscf import lib
from pyscf.pbc import tools
from pyscf.pbc.dft.multigrid import MultiGridNumInt
from pyscf.pbc.gto.pseudo import pp_int

from aiida_deeph.engine.dft.pyscf.orbitals import bloch_orbitals

# Grid points handled at a time: the temporaries of a block stay in the processor's cache.
BLOCK = 4096

# Largest prime factor of the number of grid points along an axis: the Fourier transforms stay fast.
LARGEST_PRIME = 23

Complex = NDArray[np.complex128]
Real = NDArray[np.float64]


def grid_mesh(lattice: Real, ke_cutoff: float) -> list[int]:
    """Odd numbers of grid points along the lattice vectors that reach a kinetic energy cutoff.

    Odd: no Fourier component lies on the zone boundary, where the derivative of a real function is undefined.

    :param lattice: rows are lattice vectors, shape (3, 3), Bohr.
    :param ke_cutoff: Hartree.
    """

    def smooth(n: int) -> bool:
        for prime in range(3, LARGEST_PRIME + 1, 2):
            while n % prime == 0:
                n //= prime
        return n == 1

    mesh = []
    for n in tools.cutoff_to_mesh(lattice, ke_cutoff):
        odd = int(n) | 1
        while not smooth(odd):
            odd += 2
        mesh.append(odd)
    return mesh


def orbital_memory(n_orbitals: int, n_grid: int, n_kpoints: int) -> float:
    """GiB that the orbitals of `n_kpoints` (k and -k counted once) take on the grid."""
    return n_orbitals * n_grid * n_kpoints * 16 / 2**30


class GridNumInt(MultiGridNumInt):  # type: ignore[misc]
    """Numerical integration for Kohn-Sham at k-points: PySCF asks it for J + V_xc and pseudopotentials.

    The density gradient and the divergence of the functional's derivative are taken by Fourier transform, so the
    potential is the exact derivative of the energy on this grid. k and -k share their orbitals: phi(-k) = phi(k)*.
    """

    def __init__(self, cell: Any) -> None:
        super().__init__(cell)
        self.shape = (int(cell.mesh[0]), int(cell.mesh[1]), int(cell.mesh[2]))
        self.weight = cell.vol / np.prod(self.shape)
        half = np.arange(self.shape[2] // 2 + 1, dtype=np.float64)
        self._indices = [*(np.fft.fftfreq(n, 1 / n) for n in self.shape[:2]), half]
        b = cell.reciprocal_vectors()
        n1, n2, n3 = np.meshgrid(*self._indices, indexing="ij", sparse=True)
        self._gradient = [n1 * b[0, x] + n2 * b[1, x] + n3 * b[2, x] for x in range(3)]
        square = sum(g * g for g in self._gradient)
        square[0, 0, 0] = 1.0
        self._coulomb = 4 * np.pi / square
        self._coulomb[0, 0, 0] = 0.0
        self._square = square
        self._orbitals: dict[tuple[float, ...], Real] = {}
        self._remember: set[tuple[float, ...]] = set()
        self._local: Real | None = None

    # Fourier transforms

    def _forward(self, values: Real) -> Complex:
        return np.asarray(scipy.fft.rfftn(values.reshape(self.shape)))

    def _backward(self, coefficients: Complex) -> Real:
        return np.asarray(scipy.fft.irfftn(coefficients, s=self.shape)).reshape(-1)

    # orbitals

    def keep(self, kpts: Real) -> None:
        """Keep the orbitals of these k-points from their first use on, and forget all others.

        :param kpts: Cartesian, shape (n_kpoints, 3), 1 / Bohr.
        """
        self._remember = {self._fold(k)[0] for k in kpts}
        self._orbitals = {key: phi for key, phi in self._orbitals.items() if key in self._remember}

    def _fold(self, kpt: Real) -> tuple[tuple[float, ...], bool]:
        """Fractional k in a half of the Brillouin zone as a key, and whether it stands for -k."""
        fractional = np.asarray(self.cell.get_scaled_kpts(np.asarray(kpt).reshape(1, 3)))[0]
        # Rounded after the modulo: -0.8 % 1.0 is not quite 0.2, and 1.0 is 0.0.
        key, other = (tuple((np.round(sign * fractional % 1.0, 9) % 1.0).tolist()) for sign in (1.0, -1.0))
        return (key, False) if key <= other else (other, True)

    def orbitals(self, key: tuple[float, ...]) -> Real:
        """Real parts of the Bloch orbitals on the grid and, unless k = 0, their imaginary parts below.

        :return: shape (n_orbitals or 2 n_orbitals, n_grid).
        """
        if key not in self._orbitals:
            missing = sorted(self._remember - set(self._orbitals)) if key in self._remember else [key]
            values = dict(zip(missing, bloch_orbitals(self.cell, self.shape, np.array(missing)), strict=True))
            if key not in self._remember:
                return values[key]
            self._orbitals.update(values)
        return self._orbitals[key]

    def density(self, density_matrices: Complex, kpts: Real) -> Real:
        """rho(r) = 1/N_k sum_k sum_ij phi_i(r) D_ij(k) phi_j(r)*, shape (n_grid,), 1 / Bohr^3."""
        rho = np.zeros(int(np.prod(self.shape)))
        members: dict[tuple[float, ...], list[Complex]] = {}
        for kpt, D in zip(kpts, density_matrices, strict=True):
            key, conjugated = self._fold(kpt)
            members.setdefault(key, []).append(D.conj() if conjugated else D)
        for key, matrices in members.items():
            # D(-k) = D(k)*: the mean over both, so that rounding cannot break the symmetry.
            D = np.mean(matrices, axis=0)
            occupations, vectors = np.linalg.eigh((D + D.conj().T) / 2)
            used = np.abs(occupations) > 1e-12
            vectors, occupations = vectors[:, used].T, occupations[used] * (len(matrices) / len(kpts))
            # psi = sum_i C_i phi_i in real numbers: real parts above, imaginary parts below.
            C = np.block([[vectors.real, -vectors.imag], [vectors.imag, vectors.real]])
            phi = self.orbitals(key)
            C = np.ascontiguousarray(C[:, : len(phi)])
            weights = np.concatenate([occupations, occupations])
            for begin in range(0, len(rho), BLOCK):
                psi = C @ phi[:, begin : begin + BLOCK]
                rho[begin : begin + BLOCK] += weights @ (psi * psi)
        return rho

    def matrices(self, potential: Real, kpts: Real) -> Complex:
        """<phi_i | v | phi_j> at k-points, shape (n_kpoints, n_orbitals, n_orbitals).

        :param potential: v(r), shape (n_grid,), Hartree.
        """
        n = self.cell.nao
        result = np.empty((len(kpts), n, n), dtype=np.complex128)
        done: dict[tuple[float, ...], Complex] = {}
        for place, kpt in enumerate(kpts):
            key, conjugated = self._fold(kpt)
            if key not in done:
                phi = self.orbitals(key)
                parts = np.zeros((2 * n, 2 * n))
                total = parts[: len(phi), : len(phi)]
                for begin in range(0, phi.shape[1], BLOCK):
                    block = phi[:, begin : begin + BLOCK]
                    total += block @ (block * potential[begin : begin + BLOCK]).T
                # (Re - i Im) v (Re + i Im)
                matrix = parts[:n, :n] + parts[n:, n:] + 1j * (parts[:n, n:] - parts[n:, :n])
                done[key] = (matrix + matrix.conj().T) * (self.weight / 2)
            result[place] = done[key].conj() if conjugated else done[key]
        return result

    # what PySCF calls

    def get_pp(self, kpts: Any = None, max_memory: float = 4000) -> Complex:
        """Matrices of the pseudopotential at k-points, shape (n_kpoints, n_orbitals, n_orbitals), Hartree."""
        kpts = np.zeros((1, 3)) if kpts is None else np.asarray(kpts).reshape(-1, 3)
        result = self.matrices(self._long_range_potential(), kpts)
        for n, short in enumerate(pp_int.get_pp_loc_part2(self.cell, kpts)):
            result[n] += short
        for n, nonlocal_part in enumerate(pp_int.get_pp_nl(self.cell, kpts)):
            result[n] += nonlocal_part
        return result

    def _long_range_potential(self) -> Real:
        """-Z erf(r / sqrt(2) r_loc) / r of all atoms, by its Fourier transform
        -4 pi Z / G^2 exp(-G^2 r_loc^2 / 2); at G = 0, where the neutral cell's divergences cancel, +2 pi Z r_loc^2.
        """
        if self._local is None:
            cell = self.cell
            total = np.zeros(self._square.shape, dtype=np.complex128)
            positions = cell.get_scaled_atom_coords()
            symbols = [cell.atom_symbol(n) for n in range(cell.natm)]
            for symbol in sorted(set(symbols)):
                phases = np.zeros_like(total)
                for n in (n for n, name in enumerate(symbols) if name == symbol):
                    x, y, z = (np.exp(-2j * np.pi * i * f) for i, f in zip(self._indices, positions[n], strict=True))
                    phases += x[:, None, None] * (y[:, None] * z)
                r_loc = cell._pseudo[symbol][1]
                charge = float(sum(cell._pseudo[symbol][0]))
                form = -charge * self._coulomb * np.exp(-self._square * (r_loc**2 / 2))
                form[0, 0, 0] = 2 * np.pi * charge * r_loc**2
                total += form * phases
            self._local = self._backward(total) / self.weight
        return self._local

    def nr_rks(
        self,
        cell: Any,
        grids: Any,
        xc_code: str,
        dm_kpts: Any,
        relativity: int = 0,
        hermi: int = 1,
        kpts: Any = None,
        kpts_band: Any = None,
        max_memory: float = 2000,
        verbose: Any = None,
    ) -> tuple[float, float, Any]:
        """Electrons, E_xc and the matrices of J + V_xc (with the energies as attributes, as PySCF wants them)."""
        n_electrons, energy, matrices = self._kohn_sham(xc_code, [dm_kpts], kpts, kpts_band)
        return n_electrons[0], energy, lib.tag_array(matrices[0], **matrices.__dict__)

    def nr_uks(
        self,
        cell: Any,
        grids: Any,
        xc_code: str,
        dm_kpts: Any,
        relativity: int = 0,
        hermi: int = 1,
        kpts: Any = None,
        kpts_band: Any = None,
        max_memory: float = 2000,
        verbose: Any = None,
    ) -> tuple[Any, float, Any]:
        """The same for two spins: density matrices and results of shape (2, n_kpoints, n_orbitals, n_orbitals)."""
        return self._kohn_sham(xc_code, list(dm_kpts), kpts, kpts_band)

    def _kohn_sham(
        self, xc_code: str, density_matrices: list[Any], kpts: Any, kpts_band: Any
    ) -> tuple[Any, float, Any]:
        kpts = np.asarray(kpts).reshape(-1, 3)
        shape = (len(kpts), self.cell.nao, self.cell.nao)
        rho = np.stack([self.density(np.asarray(D).reshape(shape), kpts) for D in density_matrices])
        potentials, coulomb_energy, xc_energy = self.potential(rho, xc_code)
        target = kpts if kpts_band is None else np.asarray(kpts_band).reshape(-1, 3)
        found = np.stack([self.matrices(potential, target) for potential in potentials])
        matrices = lib.tag_array(found, ecoul=coulomb_energy, exc=xc_energy, vj=None, vk=None)
        return rho.sum(axis=1) * self.weight, xc_energy, matrices

    def electrostatic(self, rho: Real) -> Real:
        """Potential of electrons and of the long-range part of the cores on the grid, Hartree, shape (n_grid,).

        :param rho: shape (n_grid,).
        """
        return self._backward(self._forward(rho) * self._coulomb) + self._long_range_potential()

    def potential(self, rho: Real, xc_code: str) -> tuple[Real, float, float]:
        """J + V_xc on the grid (Hartree), Coulomb and exchange-correlation energies (Hartree per cell).

        :param rho: all of the density, shape (1, n_grid), or that of each spin, (2, n_grid); so is the potential.
        """
        total = rho.sum(axis=0)
        hartree = self._backward(self._forward(total) * self._coulomb)
        kind, spin = self._xc_type(xc_code), len(rho) - 1
        if kind == "GGA":
            values = []
            for one in rho:
                one_G = self._forward(one)
                values.append(np.stack([one, *(self._backward(1j * g * one_G) for g in self._gradient)]))
        else:
            values = [one[None] for one in rho]
        exc, vxc = self.eval_xc_eff(xc_code, np.stack(values) if spin else values[0], deriv=1, xctype=kind, spin=spin)[
            :2
        ]
        potentials = []
        for v in vxc if spin else vxc[None]:
            potentials.append(hartree + v[0])
            if kind == "GGA":
                divergence = sum(1j * g * self._forward(x) for g, x in zip(self._gradient, v[1:4], strict=True))
                potentials[-1] -= self._backward(divergence)
        coulomb_energy = 0.5 * float(total @ hartree) * self.weight
        return np.stack(potentials), coulomb_energy, float(total @ exc.reshape(-1)) * self.weight
