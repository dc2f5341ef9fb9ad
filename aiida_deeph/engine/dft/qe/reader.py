"""A label by Quantum ESPRESSO and HPRO -> H(R), S(R)."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from aiida_deeph.engine.dft.base import HamiltonianReader
from aiida_deeph.engine.dft.qe.code import (
    DEEPH_FOLDER,
    HPRO,
    RECORD,
    RESULT_FILE,
    XML_FILE,
)
from aiida_deeph.engine.dft.qe.render import grouping
from aiida_deeph.engine.dft.qe.xml_output import PwOutput, read_pw_xml
from aiida_deeph.engine.dft.record import known_release
from aiida_deeph.engine.domain.basis import OrbitalBasis, SpinMode
from aiida_deeph.engine.domain.blocksparse import BlockSparseMatrix
from aiida_deeph.engine.domain.hamiltonian import RealSpaceHamiltonian
from aiida_deeph.engine.errors import DataError, InputError
from aiida_deeph.engine.io.deeph import (
    HAMILTONIAN_FILE,
    OVERLAP_FILE,
    read_deeph,
    read_deeph_structure,
    read_info,
    read_matrix,
)
from aiida_deeph.engine.units import HARTREE_TO_EV

# Largest difference of positions or lattice vectors between the two programs, Angstrom: constants differ in the ninth
# digit, and POSCAR has 16.
TOLERANCE = 1e-4


class QeReader(HamiltonianReader):
    """Reads a working directory of HPRO: its DeepH folder `deeph`, what its driver noted in `hpro_result.json`, and the
    `data-file-schema.xml` of pw.x.
    """

    record = RECORD

    def _read(self, directory: Path) -> RealSpaceHamiltonian:
        """H(R) and S(R) of one label.

        :raises InputError: no such label, a file is missing, or one is of an unknown version.
        :raises DataError: the SCF did not converge, the files do not belong together, or one is damaged.
        """
        result = read_result(directory)
        output = read_pw_xml(directory / XML_FILE)
        known_release(RECORD.releases, output.version, directory, "pw.x")
        known_release((HPRO,), str(result["hpro_version"]), directory, "HPRO")
        if not output.converged:
            raise DataError(
                "density did not converge",
                where=directory / XML_FILE,
                found=f"{output.scf_cycles} cycles",
                expected="convergence_achieved",
                remedy="raise electron_maxstep or change the mixing",
            )
        if output.lsda or output.magnetization > 1e-2 or output.noncollinear != output.spin_orbit:
            raise InputError(
                "magnets are not supported",
                where=directory / XML_FILE,
                found="collinear spins" if output.lsda else f"{output.magnetization:g} Bohr magnetons",
                expected="a run without spin, or one with spin-orbit coupling and time reversal",
            )
        return replace(
            _on_atoms_of(read_hpro(directory / DEEPH_FOLDER), output, directory),
            fermi_energy=output.fermi_energy,
            n_electrons=output.n_electrons,
            metadata=_metadata(output, result),
        )


def read_hpro(folder: Path) -> RealSpaceHamiltonian:
    """The DeepH folder of HPRO, whose overlaps carry spin where H does.

    :raises InputError: not a DeepH folder.
    :raises DataError: a file is damaged or does not fit the others.
    """
    info = read_info(folder)
    if not info.get("spinful"):
        return read_deeph(folder)
    try:
        basis = OrbitalBasis({symbol: tuple(ls) for symbol, ls in info["elements_orbital_map"].items()})
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError("info.json has a missing or wrong field", where=folder, found=error) from None
    doubled = read_matrix(folder / OVERLAP_FILE, np.dtype(np.complex128))
    shapes = doubled.chunk_shapes // 2
    rows, columns = doubled.entry_positions()
    n, m = shapes[doubled.pair_of_entry].T
    up = doubled.entries[(rows < n) & (columns < m)].real
    bounds = np.concatenate([[0], np.cumsum(shapes.prod(axis=1))])
    return RealSpaceHamiltonian(
        read_deeph_structure(folder),
        basis,
        SpinMode.NONCOLLINEAR,
        read_matrix(folder / HAMILTONIAN_FILE, np.dtype(np.complex128)),
        BlockSparseMatrix(doubled.atom_pairs, shapes, bounds, np.ascontiguousarray(up)),
    )


def read_result(directory: Path) -> dict[str, Any]:
    """What the driver of HPRO noted.

    :raises InputError: it is not there.
    :raises DataError: it is damaged.
    """
    path = directory / RESULT_FILE
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            "no label by Quantum ESPRESSO and HPRO",
            where=directory,
            found=error.strerror,
            expected=f"{RESULT_FILE}, {XML_FILE} and {DEEPH_FOLDER}",
        ) from None
    except ValueError as error:
        raise DataError("file is damaged", where=path, found=error) from None
    if not isinstance(result, dict) or "hpro_version" not in result:
        raise DataError("file is damaged", where=path, found="no hpro_version")
    return result


def _on_atoms_of(data: RealSpaceHamiltonian, output: PwOutput, directory: Path) -> RealSpaceHamiltonian:
    """The data on pw.x's atoms: HPRO converts Bohr and Hartree with constants of its own.

    R refers to positions as they stand in pw.x's input, which HPRO does not wrap.

    :raises InputError: HPRO has mistaken the elements, or left no matrices.
    :raises DataError: the atoms are not those of pw.x.
    """
    structure = output.structure
    if (np.diff(grouping(structure)) != 1).any():
        raise InputError(
            "atoms are not grouped by element",
            where=directory / XML_FILE,
            found=" ".join(structure.symbols)[:80],
            expected="each element in one piece: else HPRO mistakes them",
        )
    if (data.spin is not SpinMode.NONE) != output.noncollinear:
        raise _different_runs(directory, f"spin {data.spin.value}", f"noncolin {output.noncollinear}")
    if data.structure.symbols != structure.symbols:
        raise _different_runs(directory, " ".join(data.structure.symbols), " ".join(structure.symbols))
    for mine, theirs in ((data.structure.cell, structure.cell), (data.structure.positions, structure.positions)):
        if np.abs(mine - theirs).max() > TOLERANCE:
            raise _different_runs(directory, "other positions", f"those to {TOLERANCE:g} Angstrom")
    H = data.hamiltonian
    if H is None or data.overlap is None:
        raise InputError("matrices are missing", where=directory / DEEPH_FOLDER, expected="hamiltonian.h5, overlap.h5")
    H = H.with_entries(H.entries * (HARTREE_TO_EV / HPRO.hartree))
    return replace(data, structure=structure, hamiltonian=H)


def _different_runs(directory: Path, found: str, expected: str) -> DataError:
    return DataError(
        "files of different runs",
        where=directory,
        found=f"{found} in {DEEPH_FOLDER}",
        expected=f"{expected} as in {XML_FILE}",
        remedy="run HPRO again in an empty folder",
    )


def _metadata(output: PwOutput, result: dict[str, Any]) -> dict[str, Any]:
    return {
        "code": RECORD.name,
        "version": output.version,
        "converged": True,
        "settings": {
            "hpro_version": result["hpro_version"],
            "functional": output.functional,
            "cutoffs_Ry": list(output.cutoffs),
            "pseudopotentials": output.pseudo_files,
            "orbitals": result.get("orbitals"),
            "spin_orbit": output.spin_orbit,
            "k_grid": None if output.k_grid is None else list(output.k_grid),
            "smearing": None if output.smearing is None else round(output.smearing, 6),
            "scf_cycles": output.scf_cycles,
        },
        "energy_eV": output.energy,
        "projection": result.get("projection"),
    }
