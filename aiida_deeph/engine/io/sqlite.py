"""Tables of SQLite files, as data sets of many molecules come: read-only, and nothing that such a file says is run."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from aiida_deeph.engine.errors import DataError, InputError
from aiida_deeph.engine.io.paths import require_plain_file


@contextmanager
def open_table(path: Path, table: str) -> Iterator[tuple[sqlite3.Connection, tuple[str, ...]]]:
    """A connection that cannot write, and the columns of a table.

    :raises InputError: no such file, or no such table in it: a view is none.
    :raises DataError: it is damaged or no SQLite.
    """
    if not path.is_file():
        raise InputError("no such file", where=path, expected="an SQLite file")
    require_plain_file(path)
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path.resolve()))}?mode=ro&immutable=1", uri=True)) as connection:
            connection.execute("PRAGMA trusted_schema = OFF")
            kinds = connection.execute("SELECT type FROM sqlite_master WHERE name = ?", (table,)).fetchall()
            if kinds != [("table",)]:
                raise InputError("data set of another kind", where=path, expected=f"a table `{table}`")
            columns = tuple(row[1] for row in connection.execute(f"PRAGMA table_info({table})"))
            yield connection, columns
    # Names of columns are decoded by sqlite3 itself.
    except (sqlite3.Error, UnicodeDecodeError) as error:
        raise DataError("SQLite file cannot be read", where=path, found=error, remedy="copy it again") from None


def row_count(path: Path, table: str) -> int:
    """Rows of a table."""
    return len(_row_ids(path, table, path.stat().st_mtime_ns if path.is_file() else 0))


@lru_cache(maxsize=4)
def _row_ids(path: Path, table: str, stamp: int) -> NDArray[np.int64]:
    """Ids of the rows, ascending."""
    with open_table(path, table) as (connection, _):
        return np.array([row[0] for row in connection.execute(f"SELECT rowid FROM {table} ORDER BY rowid")], np.int64)


def read_row(path: Path, table: str, index: int, names: Sequence[str]) -> dict[str, Any]:
    """Values of a row, counted from 0 in the order of their ids.

    :raises InputError: there is no such row or column.
    """
    count = row_count(path, table)
    if not 0 <= index < count:
        raise InputError("no such molecule", where=path, found=index, expected=f"0 to {count - 1}")
    rowid = int(_row_ids(path, table, path.stat().st_mtime_ns)[index])
    with open_table(path, table) as (connection, columns):
        missing = [name for name in names if name not in columns]
        if missing:
            raise InputError("data set of another kind", where=path, found=f"no column {', '.join(missing)}")
        values = connection.execute(f"SELECT {', '.join(names)} FROM {table} WHERE rowid = ?", (rowid,)).fetchone()
    return dict(zip(names, values, strict=True))


def as_array(value: Any, dtype: str, shape: tuple[int, ...], where: object) -> NDArray[Any]:
    """Numbers of a blob.

    :param dtype: as numpy writes it, little-endian.
    :param shape: -1 for one length that the blob says.
    :raises DataError: it is no blob, or has another size.
    """
    try:
        return np.frombuffer(value, dtype=dtype).reshape(shape)
    except (TypeError, ValueError) as error:
        raise DataError("row is damaged", where=where, found=error, expected=f"numbers {dtype} {shape}") from None
