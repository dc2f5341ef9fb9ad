"""QH9's SQLite files -> H of a molecule; S, which they do not hold, is computed from the basis where it is needed."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aiida_deeph.engine.dft.molecules import CollectionReader, cut
from aiida_deeph.engine.dft.qh9.code import RECORD
from aiida_deeph.engine.domain.hamiltonian import RealSpaceHamiltonian
from aiida_deeph.engine.errors import DataError, InputError
from aiida_deeph.engine.io.sqlite import as_array, open_table, read_row, row_count

TABLE = "data"
# Lengths of QH9Dynamic, Bohr, were converted with this number.
BOHR = 1 / 1.8897259886
# Part of the file's name -> functional and version of the program that computed it: B3LYP changed its meaning.
FUNCTIONALS = {
    "stable": ("b3lyp5", "2.2.1"),
    "dynamic300k": ("b3lyp5", "2.2.1"),
    "dynamic100k": ("b3lypg", "2.3.0"),
}
# Geometries of each molecule of QH9Dynamic.
GEOMETRIES = 100


class Qh9Reader(CollectionReader):
    """Reads QH9Stable.db and QH9Dynamic_100k.db or _300k.db: B3LYP/def2-SVP, whose B3LYP the name of the file tells."""

    record = RECORD

    def count(self, file: Path) -> int:
        return row_count(file, TABLE)

    def molecule(self, file: Path, index: int) -> RealSpaceHamiltonian:
        functional, version = self._functional(file)
        row, where = read_row(file, TABLE, index, ("N", "Z", "pos", "Ham")), f"{file}, molecule {index}"
        numbers = as_array(row["Z"], "<i4", (-1,), where)
        if _integer(row["N"]) != len(numbers) or not set(numbers.tolist()) <= {1, 6, 7, 8, 9}:
            raise DataError("row is damaged", where=where, found=f"N = {row['N']!r}, Z = {numbers.tolist()[:20]}")
        n = sum(5 if z == 1 else 14 for z in numbers.tolist())
        positions = as_array(row["pos"], "<f8", (len(numbers), 3), where) * (BOHR if self._is_dynamic(file) else 1.0)
        H = as_array(row["Ham"], "<f8", (n, n), where)
        settings = {"xc": functional, "basis": "def2-svp", "grid_level": 3, "program_version": version}
        metadata = {"version": version, "settings": settings, "index": index}
        return self.from_dense(numbers, positions, H, None, metadata, where)

    def published_split(self, file: Path, name: str) -> dict[str, NDArray[np.int64]]:
        n, dynamic = self.count(file), self._is_dynamic(file)
        if (name in ("geometry", "mol")) != dynamic:
            kind = "QH9Dynamic" if dynamic else "QH9Stable"
            expected = "geometry or mol" if dynamic else "random or size_ood"
            raise InputError(f"split of another data set than {kind}", where=file, found=name, expected=expected)
        if name == "random":
            return cut(np.random.RandomState(43).permutation(n), int(0.8 * n), int(0.1 * n))
        if name == "size_ood":
            sizes = self._sizes(file)
            bounds = np.searchsorted(np.sort(sizes), (20, 22), side="right")
            return cut(np.argsort(np.digitize(sizes, (21, 23)), kind="stable"), bounds[0], bounds[1] - bounds[0])
        molecules = np.arange(n).reshape(-1, GEOMETRIES) if n % GEOMETRIES == 0 else None
        if molecules is None:
            raise DataError("data set is incomplete", where=file, found=n, expected=f"{GEOMETRIES} rows a molecule")
        if name == "mol":
            order = list(range(len(molecules)))
            random.Random(43).shuffle(order)
            parts = cut(order, int(0.8 * len(order)), int(0.1 * len(order)))
            return {part: molecules[chosen].ravel() for part, chosen in parts.items()}
        shuffled = [own[np.random.RandomState(own[-1]).permutation(GEOMETRIES)] for own in molecules]
        parts = [cut(own, int(0.8 * GEOMETRIES), int(0.1 * GEOMETRIES)) for own in shuffled]
        return {part: np.concatenate([one[part] for one in parts]) for part in parts[0]}

    @staticmethod
    def _functional(file: Path) -> tuple[str, str]:
        plain = "".join(filter(str.isalnum, file.stem.lower()))
        found = next((value for key, value in FUNCTIONALS.items() if key in plain), None)
        if found is None:
            raise InputError(
                "functional unknown: QH9's files differ in their B3LYP",
                where=file,
                expected="a name with Stable, Dynamic_100k or Dynamic_300k, as published",
            )
        return found

    @staticmethod
    def _is_dynamic(file: Path) -> bool:
        with open_table(file, TABLE) as (_, columns):
            return "geo_id" in columns

    @staticmethod
    def _sizes(file: Path) -> NDArray[np.int64]:
        """Atoms of each molecule."""
        with open_table(file, TABLE) as (connection, _):
            rows = connection.execute(f"SELECT N FROM {TABLE} ORDER BY rowid").fetchall()
        return np.array([_integer(row[0]) for row in rows], dtype=np.int64)


def _integer(value: Any) -> int | None:
    """A number, or the blob that it was written as."""
    if isinstance(value, bytes) and len(value) in (4, 8):
        return int.from_bytes(value, "little")
    return value if isinstance(value, int) else None
