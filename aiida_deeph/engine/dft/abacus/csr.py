"""ABACUS's matrices M(R) in CSR files, in the layout of releases up to 3.10 and in that of later ones."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aiida_deeph.engine.dft.abacus.numbers import parse_integers, parse_reals
from aiida_deeph.engine.errors import DataError, InputError

_OLD_HEADER = re.compile(
    rb"\s*(?:STEP:\s*(?P<step>\d+)\s*\n)?\s*Matrix Dimension of (?P<name>\w+)\(R\):\s*(?P<n>\d+)\s*\n"
    rb"\s*Matrix number of \w+\(R\):\s*(?P<cells>\d+)\s*\n?"
)
_NEW_HEADER = re.compile(
    rb"\s*--- Ionic Step\s+(?P<step>\d+)\s+---\s*\n(?P<rest>.*?)(?P<n>\d+)\s+# number of localized basis\s*\n"
    rb"\s*(?P<cells>\d+)\s+# number of Bravais lattice vector R\s*\n",
    re.DOTALL,
)
_NEW_BLOCK = re.compile(
    rb"^[ \t]*(-?\d+)[ \t]+(-?\d+)[ \t]+(-?\d+)[ \t]+(\d+)[ \t]*\n\s*# CSR values[ \t]*\n(.*?)"
    rb"# CSR column indices[ \t]*\n(.*?)# CSR row pointers[ \t]*\n([\s\d]*?)(?=\n[ \t]*\n|\n?\Z)",
    re.DOTALL | re.MULTILINE,
)


@dataclass(frozen=True)
class AbacusMatrix:
    """Elements of M(R) between orbitals, in the order of the file.

    :param name: what the file calls it: `H` or `S`.
    :param n_rows: orbitals in the cell, twice as many with nspin 4.
    :param cells: lattice vectors R of the file, shape (n_cells, 3).
    :param cell: index of R of each element, shape (n_elements,).
    :param rows: shape (n_elements,).
    :param columns: shape (n_elements,).
    :param values: real or complex, shape (n_elements,).
    :param positions: fractional coordinates to which R refers, shape (n_atoms, 3); None in the older layout.
    """

    path: Path
    name: str
    n_rows: int
    cells: NDArray[np.int64]
    cell: NDArray[np.int64]
    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    values: NDArray[Any]
    positions: NDArray[np.float64] | None = None


def read_csr(path: Path) -> AbacusMatrix:
    """Read a CSR file of either layout.

    :raises InputError: not such a file, one of several steps, or a matrix folded over R.
    :raises DataError: the file is cut off or damaged.
    """
    try:
        text = path.read_bytes()
    except OSError as error:
        raise InputError("matrix cannot be read", where=path, found=error) from None
    old, new = _OLD_HEADER.match(text), _NEW_HEADER.match(text)
    header = old or new
    if header is None:
        raise InputError(
            "not a CSR file of ABACUS",
            where=path,
            expected="`Matrix Dimension of H(R)` or `--- Ionic Step 1 ---` at its begin",
            remedy="write text: out_mat_hs2 1, or out_hsr 1 in later releases",
        )
    several = InputError("matrices of several steps in one file", where=path, expected="a run of one geometry")
    if new and text.count(b"--- Ionic Step") > 1:
        raise several
    name = header["name"] if old else _name_in(header["rest"])
    n_rows, n_cells = int(header["n"]), int(header["cells"])
    body = text[header.end() :]
    try:
        if old:
            parts, positions = _old_parts(body), None
            if parts is None:
                raise several
        else:
            positions = _positions(body, path)
            if body.count(b"# CSR values") != sum(1 for _ in _NEW_BLOCK.finditer(body)):
                raise ValueError("its end")
            parts = [
                (np.array([int(x) for x in m.groups()[:3]]), int(m[4]), m[5], m[6], m[7])
                for m in _NEW_BLOCK.finditer(body)
            ]
        return _assembled(path, name.decode(), n_rows, n_cells, parts, positions)
    except ValueError as error:
        raise DataError("matrix is damaged", where=path, found=error) from None


Part = tuple[NDArray[np.int64], int, bytes, bytes, bytes]


def _old_parts(body: bytes) -> list[Part] | None:
    """R with its number of elements; then, if there are any, a line of values, of columns and of row pointers.

    :return: None if another step follows.
    """
    lines = [line for line in body.split(b"\n") if line.strip()]
    parts, place = [], 0
    while place < len(lines):
        if lines[place].lstrip().startswith(b"STEP:"):
            return None
        words = [int(word) for word in lines[place].split()]
        if len(words) != 4:
            raise ValueError(f"{len(words)} numbers instead of R and a number of elements")
        filled = words[3] > 0
        if filled and place + 3 >= len(lines):
            raise ValueError("its end")
        three = lines[place + 1 : place + 4] if filled else [b"", b"", b""]
        parts.append((np.array(words[:3]), words[3], *three))
        place += 4 if filled else 1
    return parts


def _assembled(
    path: Path, name: str, n_rows: int, n_cells: int, parts: list[Part], positions: NDArray[np.float64] | None
) -> AbacusMatrix:
    counts = np.array([part[1] for part in parts], dtype=np.int64)
    values: NDArray[Any] = parse_reals(b" ".join(part[2] for part in parts))
    if any(b"(" in part[2][:100] for part in parts):
        values = values.view(np.complex128) if len(values) % 2 == 0 else values
    columns = parse_integers(b" ".join(part[3] for part in parts))
    pointers = parse_integers(b" ".join(part[4] for part in parts))
    filled = counts > 0
    wanted = int(counts.sum())
    found = f"{len(parts)} lattice vectors, {len(values)} values, {len(columns)} columns, {len(pointers)} row pointers"
    if (
        # Releases before 3.9 list lattice vectors without elements, later ones may leave blocks out.
        len(parts) != n_cells if positions is None else len(parts) > n_cells
    ) or (len(values), len(columns), len(pointers)) != (wanted, wanted, int(filled.sum()) * (n_rows + 1)):
        raise DataError(
            "matrix is truncated or damaged",
            where=path,
            found=found,
            expected=f"{n_cells} lattice vectors, {wanted} values and columns",
        )
    per_row = np.diff(pointers.reshape(-1, n_rows + 1), axis=1)
    cells = np.array([part[0] for part in parts], dtype=np.int64).reshape(-1, 3)
    if {tuple(R) for R in cells.tolist()} != {tuple(R) for R in (-cells).tolist()}:
        raise DataError("matrix is truncated", where=path, found="an R without -R", expected="both")
    if (per_row < 0).any() or (per_row.sum(axis=1) != counts[filled]).any() or (columns >= n_rows).any():
        raise DataError("matrix is damaged", where=path, found="row pointers or columns that do not fit")
    return AbacusMatrix(
        path=path,
        name=name,
        n_rows=n_rows,
        cells=cells,
        cell=np.repeat(np.arange(len(parts), dtype=np.int32), counts),
        rows=np.repeat(np.tile(np.arange(n_rows, dtype=np.int32), len(per_row)), per_row.ravel()),
        columns=columns.astype(np.int32),
        values=values,
        positions=positions,
    )


def _name_in(header: bytes) -> bytes:
    match = re.search(rb"print\s+\w+\s+matrix in real space (\w+)\(R\)", header)
    return match[1] if match else b"unknown"


def _positions(body: bytes, path: Path) -> NDArray[np.float64]:
    """Fractional coordinates in the header of the newer layout.

    :raises InputError: the matrix is folded to Gamma.
    :raises ValueError: there are none.
    """
    head = body[: body.find(b"#---")].decode(errors="replace")
    folded = re.search(r"# representation:\s*(.*)", head)
    if folded:
        raise InputError(
            "matrix is not one of all R",
            where=path,
            found=folded.group(1),
            expected="M(R) of a k-mesh",
            remedy="set gamma_only 0",
        )
    lines = [line.split() for line in head.splitlines() if line.strip()]
    try:
        direct = next(n for n, words in enumerate(lines) if words[0] == "Direct")
        n_atoms = sum(int(word) for word in lines[direct - 1])
        return np.array([[float(x) for x in words[:3]] for words in lines[direct + 1 : direct + 1 + n_atoms]]).reshape(
            n_atoms, 3
        )
    except StopIteration:
        raise ValueError("no unit cell in its header") from None
