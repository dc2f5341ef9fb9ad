"""ABACUS's input of one geometry (INPUT, STRU, KPT), written from the objects of the package."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from ase.data import atomic_masses, atomic_numbers
from numpy.typing import NDArray

from aiida_deeph.engine.dft.abacus.code import SUFFIX
from aiida_deeph.engine.dft.scf_run import ScfRun, floats
from aiida_deeph.engine.domain.basis import SpinMode
from aiida_deeph.engine.domain.structure import Structure
from aiida_deeph.engine.errors import InputError
from aiida_deeph.engine.units import BOHR_TO_ANGSTROM

DATA_FOLDER = "DATA"
# Where the files of an earlier run's output are found.
RESTART_FOLDER = "RESTART"
NSPIN = {SpinMode.NONE: 1, SpinMode.COLLINEAR: 2, SpinMode.NONCOLLINEAR: 4}
# Where all moments are zero, ABACUS sets 1 on every atom: this is as good as zero.
NO_MOMENT = 1e-7


@dataclass(frozen=True)
class Species:
    """What stands for an element.

    :param orbitals: name of its `.orb` file.
    :param pseudo: name of its `.upf` file.
    :param valence: electrons of the neutral pseudo-atom.
    """

    orbitals: str
    pseudo: str
    valence: float | None


@dataclass(frozen=True, kw_only=True)
class AbacusRun(ScfRun):
    """All that the input says: an SCF, or the bands of the density of an earlier one if `band_kpoints` are given.

    :param species: what stands for each element.
    """

    species: Mapping[str, Species]


def order_of_atoms(structure: Structure) -> NDArray[np.int64]:
    """The atoms as ABACUS has them, element by element in the order in which the structure names them."""
    elements = {symbol: n for n, symbol in enumerate(structure.elements)}
    return np.argsort([elements[symbol] for symbol in structure.symbols], kind="stable")


def render_inputs(run: AbacusRun) -> dict[str, str]:
    """Name -> text of the files INPUT, STRU and KPT.

    :raises InputError: an element without basis, spins and moments that do not fit each other, bands of no density.
    """
    run.check_species(run.species)
    run.check_spin({symbol: species.valence for symbol, species in run.species.items()})
    if run.band_kpoints is not None and not run.restart:
        raise InputError(
            "bands without a density",
            where="bands_kpoints",
            found="no restart_folder",
            expected="the folder of an SCF of the same structure, as ABACUS computes bands in a run of their own",
        )
    return {"INPUT": _input(run), "STRU": _stru(run), "KPT": _kpt(run)}


def _input(run: AbacusRun) -> str:
    bands = run.band_kpoints is not None
    noncollinear = run.spin is SpinMode.NONCOLLINEAR
    values = {
        "suffix": SUFFIX,
        "calculation": "nscf" if bands else "scf",
        "esolver_type": "ksdft",
        "basis_type": "lcao",
        "gamma_only": "0",
        # Noncollinear magnets are not the same at k and -k.
        "symmetry": "-1" if noncollinear else "0",
        "pseudo_dir": f"./{DATA_FOLDER}/",
        "orbital_dir": f"./{DATA_FOLDER}/",
        "stru_file": "STRU",
        "kpoint_file": "KPT",
        "nspin": str(NSPIN[run.spin]),
        **({"noncolin": "1"} if noncollinear else {}),
        **({"lspinorb": "1"} if run.spin_orbit else {}),
        **({"init_chg": "file", "read_file_dir": f"./{RESTART_FOLDER}/"} if run.restart else {}),
        **run.keywords,
    }
    if bands:
        values.pop("out_hsr", None)
        values |= {"out_band": "1 10"}
    else:
        values |= {} if "out_hsr" in values else {"out_mat_hs2": "1"}
        values |= {"out_chg": "1 12"}
    return "INPUT_PARAMETERS\n" + "".join(f"{name:<20} {value}\n" for name, value in values.items())


def _stru(run: AbacusRun) -> str:
    structure = run.structure
    elements = structure.elements
    fractional = structure.positions @ np.linalg.inv(structure.cell)
    moments = run.moment_vectors()
    spinful = run.spin is not SpinMode.NONE
    if spinful and not moments.any():
        moments = moments + np.array([0.0, 0.0, NO_MOMENT])
    noncollinear = run.spin is SpinMode.NONCOLLINEAR
    atoms: dict[str, list[str]] = {symbol: [] for symbol in elements}
    for n in order_of_atoms(structure):
        moment = f" mag {floats(moments[n] if noncollinear else moments[n, 2:], 8)}" if spinful else ""
        atoms[structure.symbols[n]].append(f"{floats(fractional[n], 14)} 1 1 1{moment}")
    sections = [
        [
            "ATOMIC_SPECIES",
            *(f"{s} {atomic_masses[atomic_numbers[s]]:.3f} {run.species[s].pseudo}" for s in elements),
        ],
        ["NUMERICAL_ORBITAL", *(run.species[s].orbitals for s in elements)],
        ["LATTICE_CONSTANT", repr(1 / BOHR_TO_ANGSTROM)],
        ["LATTICE_VECTORS", *(floats(row) for row in structure.cell)],
        ["ATOMIC_POSITIONS", "Direct"],
        *([symbol, "0.0", str(len(rows)), *rows] for symbol, rows in atoms.items()),
    ]
    return "\n\n".join("\n".join(section) for section in sections) + "\n"


def _kpt(run: AbacusRun) -> str:
    if run.band_kpoints is None:
        return f"K_POINTS\n0\nGamma\n{' '.join(str(n) for n in run.kmesh)} 0 0 0\n"
    rows = [f"{floats(k, 14)} {1 / len(run.band_kpoints):.10f}" for k in run.band_kpoints]
    return "\n".join(["K_POINTS", str(len(rows)), "Direct", *rows]) + "\n"
