"""FHI-aims output -> H(R), S(R)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aiida_deeph.engine.dft.aims.code import RECORD
from aiida_deeph.engine.dft.aims.geometry_files import read_basis_indices, read_geometry, read_moments
from aiida_deeph.engine.dft.aims.rs_files import RsIndices, read_indices, read_values
from aiida_deeph.engine.dft.base import HamiltonianReader
from aiida_deeph.engine.dft.orbital_entries import EntryPlaces, entry_places
from aiida_deeph.engine.domain.basis import OrbitalBasis, SpinMode
from aiida_deeph.engine.domain.blocksparse import BlockSparseMatrix
from aiida_deeph.engine.domain.hamiltonian import RealSpaceHamiltonian
from aiida_deeph.engine.domain.pairs import unwrapped
from aiida_deeph.engine.domain.structure import Structure
from aiida_deeph.engine.domain.transforms import from_convention
from aiida_deeph.engine.errors import DataError, InputError

INDICES, GEOMETRY, BASIS = "rs_indices.out", "geometry.in", "basis-indices.out"
OVERLAPS = ("rs_overlap.out", "rs_overlap.h5")
# Without spin, then up and down.
HAMILTONIANS = (
    ("rs_hamiltonian.out",),
    ("rs_hamiltonian.h5",),
    ("rs_hamiltonian_up.out", "rs_hamiltonian_dn.out"),
    ("rs_hamiltonian_up.h5", "rs_hamiltonian_dn.h5"),
    ("rs_hamiltonian_up.h5", "rs_hamiltonian_down.h5"),
)
# How far the norm of a function may be from one, by the integration grid.
NORM = 1e-2
# Positions have eight decimals in the main output, Angstrom.
POSITION = 1e-6
# A coordinate this close to the border of the central cell may be on either side of it.
BORDER = 1e-5
_NUMBER = r"[-+]?\d*\.\d+(?:[EeDd][-+]?\d+)?"


class AimsReader(HamiltonianReader):
    """Reads a run of FHI-aims with `output_rs_matrices plain` or `hdf5`, spins none or collinear.

    Needed are rs_indices.out, rs_overlap and rs_hamiltonian (.._up, .._dn), geometry.in, basis-indices.out and the main
    output, which tells the geometry that was run, version, convergence, Fermi level and settings. Spin-orbit coupling,
    which FHI-aims adds after the SCF, is not in these matrices.
    """

    record = RECORD

    def _read(self, directory: Path) -> RealSpaceHamiltonian:
        """H(R) and S(R) of one run.

        :raises InputError: no such run, or a file is missing.
        :raises DataError: the run did not converge, its files do not belong together, or one is damaged.
        """
        names = next((pair for pair in HAMILTONIANS if all((directory / name).is_file() for name in pair)), None)
        overlap = next((name for name in OVERLAPS if (directory / name).is_file()), None)
        missing = [name for name in (INDICES, GEOMETRY, BASIS) if not (directory / name).is_file()]
        if names is None:
            missing.append("rs_hamiltonian.out (or rs_hamiltonian_up.out and rs_hamiltonian_dn.out)")
        if overlap is None:
            missing.append(OVERLAPS[0])
        if names is None or overlap is None or missing:
            raise InputError(
                "not a run of FHI-aims with its matrices",
                where=directory,
                expected=", ".join(missing),
                remedy="set output_rs_matrices plain, and keep all these files",
            )
        structure = read_geometry(directory / GEOMETRY)
        output = read_output(directory, structure)
        settings = output.pop("settings")
        functions = read_basis_indices(directory / BASIS)
        indices = read_indices(directory / INDICES)
        if len(functions.atoms) != indices.n_basis or set(functions.atoms) != set(range(len(structure))):
            raise DataError(
                "files of different runs",
                where=directory,
                found=f"{len(functions.atoms)} functions on {functions.atoms.max() + 1} atoms in {BASIS}",
                expected=f"{indices.n_basis} on {len(structure)}",
            )
        basis = OrbitalBasis({})
        for atom, symbol in enumerate(structure.symbols):
            basis = basis.union(OrbitalBasis({symbol: functions.shells(atom)}))
        places, order = _places(indices, basis.orbitals_per_atom(structure.symbols))

        values = read_values([directory / name for name in (overlap, *names)], indices)
        _check_diagonal(indices, values[0], directory / overlap)
        elements = [np.concatenate([one, one])[order] for one in values]
        S = places.spatial(elements[0])
        H = [one * RECORD.releases[0].hartree for one in elements[1:]]
        data = RealSpaceHamiltonian(
            structure,
            basis,
            SpinMode.NONE if len(H) == 1 else SpinMode.COLLINEAR,
            places.spatial(H[0]) if len(H) == 1 else places.spinful(H[0], H[1]),
            S,
            output.pop("fermi_energy", None),
            output.pop("n_electrons", None),
            {
                "code": RECORD.name,
                **output,
                "settings": {
                    **settings,
                    "spin": "none" if len(H) == 1 else "collinear",
                    "functions": _names_of(functions.kinds, functions.ls, functions.atoms, structure),
                },
            },
            None if len(H) == 1 else read_moments(directory / GEOMETRY),
        )
        return from_convention(unwrapped(data, _moved_by(structure, S)), RECORD.convention)


def _places(indices: RsIndices, sizes: NDArray[np.int64]) -> tuple[EntryPlaces, NDArray[np.int64]]:
    """Where the elements and their mirror images go, sorted.

    <i in R | M | j in 0> is <i in 0 | M | j in -R>, and its mirror image <j in 0 | M | i in R>; functions with
    themselves are stored at R and at -R.
    """
    n = len(indices.cells)
    rows = np.concatenate([indices.rows, indices.columns])
    columns = np.concatenate([indices.columns, indices.rows])
    cells = np.concatenate([indices.cell, indices.cell + n])
    mirrored = np.concatenate([np.ones(len(indices.rows), dtype=bool), indices.rows != indices.columns])
    order = np.lexsort((columns, rows, cells))
    order = order[mirrored[order]]
    vectors = np.concatenate([-indices.cells, indices.cells])
    return entry_places(rows[order], columns[order], cells[order], vectors, sizes), order


def _check_diagonal(indices: RsIndices, overlap: NDArray[np.float64], path: Path) -> None:
    """<phi|phi> is one: lines that are lost or doubled would shift everything behind them.

    :raises DataError: it is not.
    """
    diagonal = (indices.rows == indices.columns) & ~indices.cells[indices.cell].any(axis=1)
    wrong = np.abs(overlap[diagonal] - 1).max(initial=0.0)
    if diagonal.sum() != indices.n_basis or wrong > NORM:
        raise DataError(
            "functions are not normalised",
            where=path,
            found=f"{int(diagonal.sum())} diagonal elements, off by {wrong:.1e}",
            expected=f"{indices.n_basis} of one",
            remedy="copy the files again: lines may be lost",
        )


def _moved_by(structure: Structure, S: BlockSparseMatrix) -> NDArray[np.int64]:
    """Lattice vector that FHI-aims took from each atom to bring it to the central cell, |coordinate| <= 1/2.

    On its border rounding decides: there the side on which the overlaps are between near atoms.
    """
    fractional = structure.positions @ np.linalg.inv(structure.cell)
    shift = np.rint(fractional).astype(np.int64)
    pairs, norms = S.atom_pairs, S.norms()

    def reach(shift: NDArray[np.int64]) -> float:
        vectors = fractional[pairs[:, 4]] - shift[pairs[:, 4]] - fractional[pairs[:, 3]] + shift[pairs[:, 3]]
        return float(norms @ np.linalg.norm((vectors + pairs[:, :3]) @ structure.cell, axis=1))

    best = reach(shift)
    for atom, axis in np.argwhere(np.abs(np.abs(fractional - shift) - 0.5) < BORDER):
        other = shift.copy()
        other[atom, axis] += 1 if fractional[atom, axis] > shift[atom, axis] else -1
        if (length := reach(other)) < best * (1 - 1e-9):
            shift, best = other, length
    return shift


def read_output(directory: Path, structure: Structure) -> dict[str, Any]:
    """What the main output says.

    :param structure: of geometry.in, which must be the one that was run.
    :raises InputError: there is no main output, without which nobody knows what was run, or the run moved atoms.
    :raises DataError: the SCF did not converge, or the structure is another.
    """
    for path in sorted(directory.iterdir()):
        if not path.is_file() or path.suffix in (".in", ".h5") or path.name.startswith("rs_"):
            continue
        with path.open(encoding="utf-8", errors="replace") as stream:
            if "FHI-aims" not in stream.read(20000):
                continue
        text = path.read_text(encoding="utf-8", errors="replace")
        version = re.search(r"FHI-aims version\s*:\s*(\S+)|^\s*Version\s+(\d{6}\S*)", text, re.MULTILINE)
        if version is None:
            continue
        if "Self-consistency cycle converged." not in text:
            raise DataError(
                "density did not converge",
                where=path,
                expected="`Self-consistency cycle converged.`",
                remedy="rerun it",
            )
        if "Updated atomic structure:" in text or "Final atomic structure:" in text:
            raise InputError(
                "run moved its atoms",
                where=path,
                found="a relaxation or dynamics",
                expected="one fixed geometry: the matrices are not those of geometry.in",
                remedy="run the final geometry by itself",
            )
        _check_structure(structure, text, path)
        fermi = re.findall(rf"Chemical [Pp]otential(?: \(Fermi level\)(?: in eV)?)?\s*:\s*({_NUMBER})", text)
        electrons = re.search(rf"a total of\s+({_NUMBER}) electrons", text)
        energy = re.findall(rf"Total energy uncorrected\s*:\s*({_NUMBER}) eV", text)
        found: dict[str, Any] = {"version": version[1] or version[2], "converged": True}
        found |= {"fermi_energy": float(fermi[-1])} if fermi else {}
        found |= {"n_electrons": float(electrons[1])} if electrons else {}
        found |= {"energy_eV": float(energy[-1])} if energy else {}
        return {**found, "settings": _settings(text)}
    raise InputError(
        "main output is missing",
        where=directory,
        expected="what FHI-aims wrote to its standard output, e.g. aims.out: it tells the geometry that was run",
        remedy="keep it beside the matrices",
    )


def _settings(text: str) -> dict[str, Any]:
    """Of control.in, which the output repeats."""

    def word(pattern: str) -> str | None:
        found = re.search(rf"^\s*{pattern}\s*$", text, re.MULTILINE)
        return None if found is None else " ".join(found[1].split())

    mesh = word(r"k_grid\s+(\d+\s+\d+\s+\d+)")
    values: dict[str, Any] = {
        "xc": word(r"xc\s+(\S+)"),
        "k_grid": None if mesh is None else [int(n) for n in mesh.split()],
        "relativistic": word(r"relativistic\s+(\S.*?)"),
        "smearing": word(r"occupation_type\s+(\S.*?)"),
    }
    return {name: value for name, value in values.items() if value is not None}


def _check_structure(structure: Structure, text: str, path: Path) -> None:
    """geometry.in is what the output says was run.

    :raises DataError: it is not, or the output does not say it.
    """
    x = rf"\s+({_NUMBER})"
    _, title, below = text.partition("Input geometry:")
    cell = re.search(r"\| Unit cell:\s*\n" + 3 * rf"\s*\|{3 * x}\s*\n", below)
    atoms = re.findall(rf"^\s*\|\s*\d+: Species\s+(\S+){3 * x}\s*$", below, re.MULTILINE)[: len(structure)]
    if not title or cell is None or not atoms:
        expected = "`Input geometry:` with its unit cell and atoms"
        raise DataError("geometry of the run is not known", where=path, expected=expected, remedy="run it again")
    positions = np.array([atom[1:] for atom in atoms], dtype=np.float64)
    same = np.abs(np.array(cell.groups(), dtype=np.float64).reshape(3, 3) - structure.cell).max() < POSITION
    if not same or len(atoms) != len(structure) or np.abs(positions - structure.positions).max() > POSITION:
        raise DataError(
            "structure is not that of the run",
            where=path.with_name(GEOMETRY),
            expected=f"the input geometry in {path.name}",
            remedy="keep geometry.in as it was when FHI-aims read it",
        )


def _names_of(
    kinds: tuple[str, ...], ls: NDArray[np.int64], atoms: NDArray[np.int64], structure: Structure
) -> dict[str, list[str]]:
    """Element -> radial function, n and l of each shell, e.g. `hydro 4f`."""
    found = {}
    for symbol in structure.elements:
        members = np.flatnonzero(atoms == structure.symbols.index(symbol))
        names, done = [], 0
        while done < len(members):
            n = members[done]
            names.append(f"{kinds[n]}{'spdfghi'[ls[n]]}")
            done += 2 * int(ls[n]) + 1
        found[symbol] = names
    return found
