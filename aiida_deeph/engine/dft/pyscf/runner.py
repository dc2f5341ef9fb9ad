"""Run PySCF: a Kohn-Sham calculation of a crystal at k-points, or of a molecule, that leaves H and S in `pyscf.h5`."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import scipy.linalg
import scipy.optimize
import scipy.special

from aiida_deeph.engine.dft.pyscf.code import RESULTS_FILE
from aiida_deeph.engine.dft.pyscf.config import PyscfConfig
from aiida_deeph.engine.dft.pyscf.cycles import Cycles
from aiida_deeph.engine.dft.pyscf.magnets import fixed_occupations, found_moments, polarised
from aiida_deeph.engine.dft.pyscf.molecule import run_molecule
from aiida_deeph.engine.dft.pyscf.output import FORMAT_VERSION, Matrices, shells_of, write_matrices
from aiida_deeph.engine.domain.kpoints import mesh_indices
from aiida_deeph.engine.domain.structure import Structure
from aiida_deeph.engine.errors import InputError
from aiida_deeph.engine.io.files import write_text_atomic
from aiida_deeph.engine.io.folders import read_structure
from aiida_deeph.engine.units import BOHR_TO_ANGSTROM, HARTREE_TO_EV

# Memory that the orbitals on the grid may take; beyond it PySCF's multigrid integration takes over, GiB.
ORBITAL_MEMORY = 4.0

# k-points of a band structure that are handled at a time.
BAND_BATCH = 8


def run_pyscf(config: PyscfConfig, directory: Path, report: Callable[[str], None] = print) -> dict[str, Any]:
    """Converge the density and write `pyscf.h5` and `results.json` into `directory`.

    A run that does not converge is no error: both files are written and say so.

    :param directory: where the structure is found and the results are written.
    :param report: receives one line per SCF cycle.
    :return: what `results.json` holds.
    :raises InputError: a wrong structure, basis, pseudopotential or functional, or an odd number of electrons.
    """
    from pyscf import __version__, lib

    wall, cpu = time.perf_counter(), time.process_time()
    lib.num_threads(config.threads or 1)
    structure = read_structure(directory / config.structure)
    run = run_crystal if any(structure.pbc) else run_molecule
    matrices, numbers = run(structure, config, report)
    results: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "code": "pyscf",
        "version": __version__,
        "energy_units": "eV",
        "fermi_energy_units": "eV",
        "n_atoms": len(structure),
        "n_kpoints": len(matrices.kpoints),
        **numbers,
    }
    results["seconds"] = time.perf_counter() - wall
    results["cpu_seconds"] = time.process_time() - cpu
    results["settings"] = config.model_dump(mode="json", exclude={"bands"})
    write_matrices(directory, structure, matrices, results)
    write_text_atomic(directory / RESULTS_FILE, json.dumps(results, indent=2) + "\n")
    report(
        f"{'converged' if results['converged'] else 'NOT CONVERGED'} in {results['scf_cycles']} cycles, "
        f"E = {results['energy']:.8f} eV, {results['seconds']:.1f} s"
    )
    return results


def run_crystal(
    structure: Structure, config: PyscfConfig, report: Callable[[str], None]
) -> tuple[Matrices, dict[str, Any]]:
    """The converged (or given up) H(k) of a periodic structure, and its numbers in the words of `results.json`.

    :raises InputError: a wrong structure, basis, pseudopotential or functional, or an odd number of electrons.
    """
    cell = build_cell(structure, config)
    fractional = mesh_indices(config.kmesh) / np.array(config.kmesh)
    field, cycles = _mean_field(cell, fractional, config, report)
    matrices = _Matrices(field, cell, cycles.last)
    H, S = matrices.hamiltonian(fractional, on_mesh=True), matrices.overlap(fractional)
    magnet = {} if config.magnetic_moments is None else found_moments(field, config.magnetic_moments, S)
    fermi, homo, lumo = _fermi_energy(field, config)
    results: dict[str, Any] = {
        "converged": bool(field.converged),
        "energy": float(field.e_tot) * HARTREE_TO_EV,
        "fermi_energy": fermi,
        "homo": homo,
        "lumo": lumo,
        "n_electrons": float(cell.nelectron),
        "n_orbitals": int(cell.nao),
        "grid": [int(n) for n in cell.mesh],
        **magnet,
        **cycles.numbers(),
    }
    if config.bands is not None and field.converged:
        points = np.array(config.bands, dtype=np.float64).reshape(-1, 3)
        results["bands"] = {"kpoints": points.tolist(), "energies": matrices.bands(points, report).tolist()}
    return Matrices(shells_of(cell), fractional, list(H), S), results


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
    cell.atom = [
        (s, p) for s, p in zip(structure.symbols, (structure.positions / BOHR_TO_ANGSTROM).tolist(), strict=True)
    ]
    cell.a = structure.cell / BOHR_TO_ANGSTROM
    cell.unit = "Bohr"
    cell.basis, cell.pseudo = config.basis, config.pseudo
    cell.mesh = grid_mesh(cell.a, config.ke_cutoff)
    cell.verbose = 0
    cell.spin = None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            cell.build(dump_input=False, parse_arg=False)
    except Exception as error:  # PySCF has a class of its own for each failure
        raise InputError(
            "PySCF refuses the structure, basis or pseudopotential",
            where=f"basis {config.basis}, pseudo {config.pseudo}",
            found=f"{type(error).__name__} {error}",
            expected=f"names that PySCF knows for {', '.join(structure.elements)}",
        ) from None
    missing = [symbol for symbol in structure.elements if symbol not in cell._pseudo]
    if missing:
        raise InputError("element without pseudopotential", where=f"pseudo {config.pseudo}", found=", ".join(missing))
    if cell.nelectron % 2 and config.magnetic_moments is None:
        raise InputError(
            "odd number of electrons",
            where=config.structure,
            found=cell.nelectron,
            expected="an even number: the calculation is spin-restricted",
            remedy="double the cell, or give magnetic_moments",
        )
    return cell


def _mean_field(
    cell: Any, fractional: np.ndarray, config: PyscfConfig, report: Callable[[str], None]
) -> tuple[Any, Cycles]:
    """The converged (or given up) mean field, and what its cycles were."""
    from pyscf.pbc import dft, scf
    from pyscf.pbc.dft.multigrid import MultiGridNumInt

    from aiida_deeph.engine.dft.pyscf.grid import GridNumInt, orbital_memory

    kpts = cell.get_abs_kpts(fractional)
    field = dft.KRKS(cell, kpts) if config.magnetic_moments is None else dft.KUKS(cell, kpts)
    field.xc = config.xc
    try:
        kind, hybrid = field._numint._xc_type(config.xc), field._numint.libxc.is_hybrid_xc(config.xc)
    except (KeyError, ValueError, NotImplementedError) as error:
        raise InputError("functional unknown to PySCF", where="xc", found=config.xc, expected=error) from None
    if hybrid or kind not in ("LDA", "GGA"):
        raise InputError(
            "functional is not supported", where="xc", found=config.xc, expected="an LDA or a GGA, no hybrid"
        )
    if orbital_memory(cell.nao, int(np.prod(cell.mesh)), len(kpts) // 2 + 1) <= ORBITAL_MEMORY:
        field._numint = GridNumInt(cell)
        field._numint.keep(kpts)
    else:
        field._numint = MultiGridNumInt(cell)
    if config.smearing is not None:
        field = scf.addons.smearing(field, sigma=config.smearing / HARTREE_TO_EV, method="fermi")
    field.conv_tol, field.conv_tol_grad, field.conv_check = config.conv_tol, Cycles.GRADIENT_TOLERANCE, False
    field.max_cycle = config.max_cycle
    field.callback = cycles = Cycles(report)
    start = None
    if config.magnetic_moments is not None:
        start = polarised(cell, np.asarray(field.get_init_guess(cell, "minao")), config.magnetic_moments)
        if config.smearing is None:
            field.nelec = fixed_occupations(cell.nelectron, config.magnetic_moments, len(kpts))
    field.kernel(dm0=start)
    return field, cycles


def _fermi_energy(field: Any, config: PyscfConfig) -> tuple[float, float, float]:
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


class _Matrices:
    """H(k) in eV and S(k) from the converged potential, at any k-point."""

    def __init__(self, field: Any, cell: Any, last: dict[str, Any]) -> None:
        self.field, self.cell, self.last = field, cell, last

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
        return (H + H.conj().transpose(0, 1, 3, 2)) * (HARTREE_TO_EV / 2)

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
