"""The ase database of a molecule of MD17 -> H and S of its geometries: PBE/def2-SVP by ORCA."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aiida_deeph.engine.dft.md17.code import RECORD
from aiida_deeph.engine.dft.molecules import CollectionReader, cut
from aiida_deeph.engine.domain.hamiltonian import RealSpaceHamiltonian
from aiida_deeph.engine.errors import DataError
from aiida_deeph.engine.io.sqlite import as_array, read_row, row_count

TABLE = "systems"
WATER = [1, 1, 8]


class Md17Reader(CollectionReader):
    """Reads schnorb_hamiltonian_MOLECULE.db; the table of ase's databases is read without ase's own decoder."""

    record = RECORD

    def count(self, file: Path) -> int:
        return row_count(file, TABLE)

    def molecule(self, file: Path, index: int) -> RealSpaceHamiltonian:
        row, where = read_row(file, TABLE, index, ("numbers", "positions", "data")), f"{file}, molecule {index}"
        numbers = as_array(row["numbers"], "<i4", (-1,), where)
        positions = as_array(row["positions"], "<f8", (len(numbers), 3), where)
        data = _decoded(row["data"], where)
        n = sum(5 if z == 1 else 14 for z in numbers.tolist())
        H, S = (_matrix(data, name, n, where) for name in ("hamiltonian", "overlap"))
        metadata = {
            "version": "ORCA, as published",
            "settings": {"xc": "pbe", "basis": "def2-svp", "program": "ORCA"},
            "index": index,
        }
        return self.from_dense(numbers, positions, H, S, metadata, where)

    def published_split(self, file: Path, name: str) -> dict[str, NDArray[np.int64]]:
        n = self.count(file)
        row = read_row(file, TABLE, 0, ("numbers",))
        numbers = sorted(as_array(row["numbers"], "<i4", (-1,), file).tolist())
        n_train = 500 if numbers == WATER else 25_000
        if n <= n_train + 500:
            raise DataError("data set is incomplete", where=file, found=n, expected=f"more than {n_train + 500}")
        return cut(np.random.RandomState(42).permutation(n), n_train, 500)


def _decoded(value: Any, where: object) -> Mapping[str, Any]:
    """The column `data` of ase's table: JSON, or arrays followed by JSON that says where they begin."""
    try:
        if isinstance(value, str):
            found = json.loads(value)
        else:
            begin = int.from_bytes(value[:8], "little")
            found = json.loads(value[begin:].decode())
            found = {name: _from_bytes(one, value) for name, one in found.items()}
    except (TypeError, ValueError, AttributeError, RecursionError) as error:
        raise DataError("row is damaged", where=where, found=error) from None
    if not isinstance(found, Mapping):
        raise DataError("row is damaged", where=where, found=type(found).__name__)
    return found


def _from_bytes(value: Any, content: bytes) -> Any:
    if isinstance(value, Mapping) and "__ndarray__" in value:
        shape, kind, offset = value["__ndarray__"]
        return np.frombuffer(content, np.dtype(str(kind)), int(np.prod(shape)), int(offset)).reshape(shape)
    return value


def _matrix(data: Mapping[str, Any], name: str, n: int, where: object) -> NDArray[np.float64]:
    """A square matrix of a row, whichever of ase's ways of writing arrays was used."""
    value = data.get(name)
    if isinstance(value, Mapping) and "__ndarray__" in value:
        value = value["__ndarray__"][-1]
    try:
        matrix = np.asarray(value, dtype=np.float64).reshape(n, n)
    except (TypeError, ValueError) as error:
        raise DataError("matrix does not fit the molecule", where=f"{where}, {name}", found=error) from None
    return matrix
