"""The binary file `.scfout` that OpenMX 3.9 writes with `HS.fileout on`: matrices in Hartree, lengths in Bohr."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from aiida_deeph.engine.errors import DataError, InputError

# The second integer is 4 * layout + spin.
LAYOUTS = {
    0: "OpenMX 3.8 or older",
    1: "a development version of OpenMX 3.7",
    2: "a development version of OpenMX 3.7",
    3: "OpenMX 3.9",
}
LAYOUT = 3
# Spin flag -> number of real and of imaginary parts of H: uu, dd, Re ud, Im ud; imaginary parts of uu, dd, ud.
PARTS = {0: (1, 0), 1: (2, 0), 3: (4, 3)}
LINE = 256
# No atom has more orbitals, no run more atoms or cells: larger numbers are a sign of another kind of file.
MAX_ORBITALS, MAX_COUNT = 1000, 10_000_000

Real = NDArray[np.float64]


@dataclass(frozen=True)
class Scfout:
    """Contents of one file, in OpenMX's units, order of orbitals and order of pairs.

    :param spin: 0 without, 1 collinear, 3 noncollinear.
    :param cell: lattice vectors in rows, shape (3, 3), Bohr.
    :param positions: as R refers to them, shape (n_atoms, 3), Bohr.
    :param orbitals: of each atom, shape (n_atoms,).
    :param atom_pairs: rows (R1, R2, R3, i, j) with atoms counted from 0, shape (n_pairs, 5).
    :param hamiltonian: blocks row-major in the order of the pairs, shape (1, 2 or 4, n_entries), Hartree.
    :param hamiltonian_imaginary: shape (0 or 3, n_entries), Hartree.
    :param overlap: shape (n_entries,).
    :param fermi_energy: Hartree.
    :param temperature: of the electrons, K.
    :param total_spin: half the number of unpaired electrons.
    :param input_text: the input file of the run.
    """

    path: Path
    spin: int
    cell: Real
    positions: Real
    orbitals: NDArray[np.int64]
    atom_pairs: NDArray[np.int64]
    hamiltonian: Real
    hamiltonian_imaginary: Real
    overlap: Real
    fermi_energy: float
    temperature: float
    n_electrons: float
    total_spin: float
    input_text: str


def read_scfout(path: Path) -> Scfout:
    """Read one file.

    :raises InputError: the file is missing, is no `.scfout`, or has the layout of another version.
    :raises DataError: it is truncated or damaged.
    """
    with _opened(path) as file:
        n_atoms, spin, n_cells, order_max = _header(file)
        vectors = file.take(np.float64, 4 * n_cells, "cells").reshape(-1, 4)[:, 1:]
        cells = file.take(np.int32, 4 * n_cells, "cells").reshape(-1, 4)[:, 1:]
        orbitals = file.take(np.int32, n_atoms, "numbers of orbitals")
        file.check(bool(((orbitals > 0) & (orbitals < MAX_ORBITALS)).all()), "numbers of orbitals")
        neighbours = file.take(np.int32, n_atoms, "numbers of neighbours")
        file.check(bool(((neighbours >= 0) & (neighbours < MAX_COUNT)).all()), "numbers of neighbours")
        counts = neighbours + 1
        i = np.repeat(np.arange(n_atoms), counts)
        j = file.take(np.int32, len(i), "neighbours") - 1
        cell_of = file.take(np.int32, len(i), "cells of neighbours")
        file.check(bool(((j >= 0) & (j < n_atoms)).all()), "neighbours")
        file.check(bool(((cell_of >= 0) & (cell_of < n_cells)).all()), "cells of neighbours")
        cell, reciprocal = file.take(np.float64, 24, "lattice vectors").reshape(2, 3, 4)[:, :, 1:]
        positions = file.take(np.float64, 4 * n_atoms, "positions").reshape(-1, 4)[:, 1:]
        file.check(np.allclose(cell @ reciprocal.T, 2 * np.pi * np.eye(3), atol=1e-6), "lattice vectors")
        # The first of the cells is the home cell and its vector is never set.
        file.check(np.allclose(vectors[1:], cells[1:] @ cell, atol=1e-6) and not cells[0].any(), "cells")
        first = np.cumsum(counts) - counts
        file.check(bool((j[first] == np.arange(n_atoms)).all() and not cell_of[first].any()), "neighbours")

        n_entries = int((orbitals[i].astype(np.int64) * orbitals[j]).sum())
        real, imaginary = PARTS[spin]
        moments = 3 * order_max + 3  # <i|x^n|j> and <i|p|j>
        file.require(8 * n_entries * (real + imaginary + 1 + moments + real + 2) + 88, "matrices")
        H = file.take(np.float64, real * n_entries, "Hamiltonian").reshape(real, n_entries)
        H_imaginary = file.take(np.float64, imaginary * n_entries, "Hamiltonian").reshape(imaginary, n_entries)
        S = file.take(np.float64, n_entries, "overlap")
        file.skip(8 * n_entries * (moments + real + 2))  # and two parts of the density matrix
        file.take(np.int32, 1, "solver")
        scalars = file.take(np.float64, 10, "Fermi level")
        n_lines = int(file.take(np.int32, 1, "input file")[0])
        file.check(0 < n_lines < MAX_COUNT, "input file")
        # What follows is not looked at: builds of 3.9 add matrices, and guides of old have `.out` appended.
        lines = file.take(np.uint8, LINE * n_lines, "input file").tobytes()
        for name, values in (("Hamiltonian", H), ("Hamiltonian", H_imaginary), ("overlap", S), ("scalars", scalars)):
            file.check(bool(np.isfinite(values).all()), name)
        # Each line is a C string in a buffer of fixed length; what follows its end is left over from others.
        texts = [lines[n : n + LINE].split(b"\0")[0] for n in range(0, len(lines), LINE)]
        file.check(all(line.endswith(b"\n") for line in texts[:-1]), "input file")
    pairs = np.concatenate([cells[cell_of], i[:, None], j[:, None]], axis=1).astype(np.int64)
    return Scfout(
        path=path,
        spin=spin,
        cell=cell,
        positions=positions,
        orbitals=orbitals.astype(np.int64),
        atom_pairs=pairs,
        hamiltonian=H,
        hamiltonian_imaginary=H_imaginary,
        overlap=S,
        fermi_energy=float(scalars[0]),
        temperature=float(scalars[1]),
        n_electrons=float(scalars[8]),
        total_spin=float(scalars[9]),
        input_text=b"".join(texts).decode("utf-8", "replace"),
    )


def _header(file: _File) -> tuple[int, int, int, int]:
    """Atoms, spin flag, cells and the highest power of the position in the matrices."""
    head = file.take(np.int32, 7, "header")
    n_atoms, version, left, right, n_copies, order_max = (int(head[n]) for n in (0, 1, 3, 4, 5, 6))
    layout, spin = divmod(version, 4)
    if 0 < int(head[:1].byteswap()[0]) < n_atoms and 0 <= int(head[1:2].byteswap()[0]) < 16:
        raise InputError(
            "scfout has another byte order", where=file.path, remedy="read it on a machine like the one that wrote it"
        )
    plausible = 0 < n_atoms < MAX_COUNT and 0 <= n_copies < MAX_COUNT and layout in LAYOUTS and spin in PARTS
    if plausible and layout != LAYOUT:
        raise InputError(
            "scfout has the layout of another version",
            where=file.path,
            found=LAYOUTS[layout],
            expected=LAYOUTS[LAYOUT],
            remedy="run OpenMX 3.9",
        )
    if not plausible or not 0 < order_max < 100:
        raise InputError("not a scfout file", where=file.path, expected="the binary file of OpenMX with HS.fileout on")
    if left or right:
        raise InputError("scfout of a transport calculation (NEGF)", where=file.path, expected="a periodic calculation")
    return n_atoms, spin, n_copies + 1, order_max


class _File:
    """A binary file that is read front to back and knows what is left of it."""

    def __init__(self, path: Path, stream: IO[bytes], size: int) -> None:
        self.path, self._stream, self.left = path, stream, size

    def require(self, n_bytes: int, what: str) -> None:
        if n_bytes > self.left:
            raise DataError(
                "scfout is truncated",
                where=f"{self.path}, {what}",
                found=f"{self.left} bytes",
                expected=f"at least {n_bytes}",
                remedy="copy the file again or run OpenMX again",
            )

    def take(self, dtype: Any, count: int, what: str) -> NDArray[Any]:
        size = count * np.dtype(dtype).itemsize
        self.require(size, what)
        self.left -= size
        return np.fromfile(self._stream, dtype, count)

    def skip(self, n_bytes: int) -> None:
        self._stream.seek(n_bytes, 1)
        self.left -= n_bytes

    def check(self, good: bool, what: str) -> None:
        if not good:
            raise DataError(
                "scfout is damaged", where=f"{self.path}, {what}", expected=f"the layout of {LAYOUTS[LAYOUT]}"
            )


@contextmanager
def _opened(path: Path) -> Iterator[_File]:
    try:
        with path.open("rb") as stream:
            yield _File(path, stream, path.stat().st_size)
    except OSError as error:
        raise InputError("scfout cannot be read", where=path, found=error) from None
