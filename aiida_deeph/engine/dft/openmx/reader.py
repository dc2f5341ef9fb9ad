"""OpenMX output -> H(R), S(R)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aiida_deeph.engine.dft.base import HamiltonianReader
from aiida_deeph.engine.dft.openmx.code import OPENMX, RECORD
from aiida_deeph.engine.dft.openmx.input_file import OpenmxInput, parse_input
from aiida_deeph.engine.dft.openmx.output import OpenmxOutput, read_output
from aiida_deeph.engine.dft.openmx.scfout import Scfout, read_scfout
from aiida_deeph.engine.domain.basis import OrbitalBasis, SpinMode
from aiida_deeph.engine.domain.blocksparse import BlockSparseMatrix
from aiida_deeph.engine.domain.hamiltonian import RealSpaceHamiltonian
from aiida_deeph.engine.domain.moments import Moments
from aiida_deeph.engine.domain.structure import Structure
from aiida_deeph.engine.domain.transforms import from_convention
from aiida_deeph.engine.errors import DataError, InputError
from aiida_deeph.engine.orbitals.pao import OrbitalName

SPINS = {0: SpinMode.NONE, 1: SpinMode.COLLINEAR, 3: SpinMode.NONCOLLINEAR}


class OpenmxReader(HamiltonianReader):
    """Reads an OpenMX 3.9 run with `HS.fileout on`: NAME.scfout and NAME.out of one folder.

    All pairs of atoms that OpenMX stores are kept: those whose orbitals can touch.
    """

    record = RECORD

    def _read(self, directory: Path) -> RealSpaceHamiltonian:
        """H(R) and S(R) of one run.

        :raises InputError: no OpenMX run, one without matrices, or of a version whose files have another layout.
        :raises DataError: the run did not converge, its files do not belong together, or one is damaged.
        """
        path = find_scfout(directory)
        output = read_output(path.with_suffix(".out"))
        raw = read_scfout(path)
        fermi_energy = raw.fermi_energy * OPENMX.hartree
        if output.fermi_energy is not None and abs(output.fermi_energy - fermi_energy) > 1e-9 * OPENMX.hartree:
            raise DataError(
                "files of different runs",
                where=path.parent,
                found=f"Fermi level {fermi_energy:.8f} eV in {path.name}, {output.fermi_energy:.8f} in the output",
                expected="one run",
                remedy="run OpenMX again in an empty folder",
            )
        settings = parse_input(raw.input_text)
        symbols, bases = _species(settings, raw)
        basis = OrbitalBasis({})
        for name in bases.values():
            basis = basis.union(OrbitalBasis({name.element: name.shells}))
        wrong = np.flatnonzero(basis.orbitals_per_atom(symbols) != raw.orbitals)
        if len(wrong):
            raise DataError(
                "numbers of orbitals do not fit the input",
                where=f"{path}, atom {wrong[0] + 1}",
                found=int(raw.orbitals[wrong[0]]),
                expected=int(basis.orbitals_per_atom(symbols)[wrong[0]]),
            )
        data = RealSpaceHamiltonian(
            Structure(symbols, raw.positions * OPENMX.bohr, raw.cell * OPENMX.bohr),
            basis,
            SPINS[raw.spin],
            _hamiltonian(raw) * OPENMX.hartree,
            BlockSparseMatrix.from_pairs(raw.atom_pairs, raw.orbitals, raw.overlap),
            fermi_energy,
            raw.n_electrons,
            _metadata(raw, output, settings, bases),
            _moments(raw, output, settings),
        )
        return from_convention(data, RECORD.convention)


def find_scfout(directory: Path) -> Path:
    """The one `.scfout` of a folder.

    :raises InputError: there is none, or several.
    """
    found = sorted(directory.glob("*.scfout"))
    if not found:
        raise InputError(
            "no scfout here", where=directory, expected="NAME.scfout", remedy="set HS.fileout on and run OpenMX 3.9"
        )
    if len(found) > 1:
        raise InputError(
            "several runs in one folder", where=directory, found=", ".join(p.name for p in found), expected="one"
        )
    return found[0]


def _species(settings: OpenmxInput, raw: Scfout) -> tuple[tuple[str, ...], dict[str, OrbitalName]]:
    """Element of each atom, and basis of each species."""
    species, atoms = settings.species(raw.path), settings.atoms(raw.path)
    unknown = sorted(set(atoms) - set(species))
    if unknown or len(atoms) != len(raw.orbitals):
        raise DataError(
            "atoms do not fit the input",
            where=raw.path,
            found=f"{len(raw.orbitals)} atoms, {len(atoms)} in the input"
            + (f", undefined species {', '.join(unknown)}" if unknown else ""),
        )
    empty = sorted({name for name in atoms if species[name].element == "E"})
    if empty:
        raise InputError(
            "empty atoms are not supported", where=raw.path, found=", ".join(empty), expected="orbitals on atoms only"
        )
    return tuple(species[name].element for name in atoms), {name: species[name] for name in dict.fromkeys(atoms)}


def _hamiltonian(raw: Scfout) -> BlockSparseMatrix:
    """H(R) in Hartree, OpenMX's order of orbitals.

    With H_0..3 and I_0..2 the real and imaginary parts: uu = H_0 + i I_0, dd = H_1 + i I_1, ud = H_2 + i (H_3 + I_2);
    du_ij(R) = ud_ji(-R)^dagger.
    """
    H, imaginary = raw.hamiltonian, raw.hamiltonian_imaginary
    if raw.spin == 0:
        return BlockSparseMatrix.from_pairs(raw.atom_pairs, raw.orbitals, H[0])
    uu, dd = H[0].astype(np.complex128), H[1].astype(np.complex128)
    ud: NDArray[np.complex128] | None = None
    du: NDArray[np.complex128] | None = None
    if raw.spin == 3:
        uu.imag, dd.imag = imaginary[0], imaginary[1]
        ud = H[2] + 1j * (H[3] + imaginary[2])
        du = BlockSparseMatrix.from_pairs(raw.atom_pairs, raw.orbitals, ud).adjoint().entries
    full = BlockSparseMatrix.from_pairs(raw.atom_pairs, 2 * raw.orbitals, dtype=np.complex128)
    spatial = BlockSparseMatrix.from_pairs(raw.atom_pairs, raw.orbitals, raw.overlap)
    rows, columns = (x.astype(np.int64) for x in spatial.entry_positions())
    n, m = spatial.chunk_shapes[spatial.pair_of_entry].T
    place = full.chunk_boundaries[:-1][spatial.pair_of_entry] + rows * 2 * m + columns
    full.entries[place] = uu
    full.entries[place + n * 2 * m + m] = dd
    if ud is not None and du is not None:
        full.entries[place + m] = ud
        full.entries[place + n * 2 * m] = du
    return full


def _moments(raw: Scfout, output: OpenmxOutput, settings: OpenmxInput) -> Moments | None:
    nominal, converged = settings.moments(), output.moments
    if not raw.spin or (nominal is None and converged is None):
        return None
    return Moments(nominal, converged)


def _metadata(
    raw: Scfout, output: OpenmxOutput, settings: OpenmxInput, bases: dict[str, OrbitalName]
) -> dict[str, object]:
    definitions = [line.split() for line in settings.blocks["definition.of.atomic.species"]]
    return {
        "code": RECORD.name,
        "version": output.version,
        "converged": True,
        "settings": {
            "name": settings.word("system.name", "default"),
            "xc": settings.word("scf.xctype", "LDA"),
            "energy_cutoff_Ry": settings.word("scf.energycutoff"),
            "k_grid": list(settings.keywords.get("scf.kgrid", ())),
            "spin": settings.word("scf.spinpolarization", "off"),
            "spin_orbit": settings.word("scf.spinorbit.coupling", "off"),
            "species": {row[0]: row[1:3] for row in definitions if row[0] in bases},
            "temperature_K": raw.temperature,
            "scf_criterion_Hartree": output.criterion / OPENMX.hartree,
        },
        "scf_cycles": len(output.scf_energies),
        "energy_eV": output.energy,
        "total_spin": raw.total_spin,
    }
