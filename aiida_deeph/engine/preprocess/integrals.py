"""S of a run against two-centre integrals, where the run tells its basis: the surest tie of matrices to positions."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aiida_deeph.engine.dft.base import get_reader, records
from aiida_deeph.engine.dft.record import BASIS_FILE
from aiida_deeph.engine.domain.blocksparse import BlockSparseMatrix
from aiida_deeph.engine.domain.gate import Gate
from aiida_deeph.engine.domain.hamiltonian import RealSpaceHamiltonian
from aiida_deeph.engine.domain.neighbours import pair_distances
from aiida_deeph.engine.domain.structure import Structure
from aiida_deeph.engine.errors import DeepHError
from aiida_deeph.engine.io.files import file_sha256
from aiida_deeph.engine.orbitals.formats import FORMATS
from aiida_deeph.engine.orbitals.gaussian import GaussianBasis
from aiida_deeph.engine.overlap.basis import Spec, load_basis, load_numeric, named_basis
from aiida_deeph.engine.overlap.gaussian import overlap_gaussian
from aiida_deeph.engine.overlap.radial import NumericOverlap

Integrals = Callable[[Structure, NDArray[np.int64]], BlockSparseMatrix]
# So many pairs are looked at, evenly spread over the distances.
PAIRS = 48
# What grids of the codes and few digits of files cost.
LIMIT = 5e-3


def overlap_as_integrals(data: RealSpaceHamiltonian, code: str, folder: Path) -> Gate | None:
    """Largest difference of S and its integrals on a few pairs; None where the basis is not known.

    :param folder: of the run: codes that leave their orbitals there tell their basis so.
    """
    S = data.overlap
    integrals = None if S is None or not len(S) else _integrals_of(data, code, folder)
    if S is None or integrals is None:
        return None
    order = np.argsort(pair_distances(data.structure, S.atom_pairs), kind="stable")
    chosen = S.selected(order[np.unique(np.linspace(0, len(order) - 1, PAIRS).astype(int))])
    expected = integrals(data.structure, chosen.atom_pairs)
    if not np.array_equal(expected.chunk_shapes, chosen.chunk_shapes):
        return None
    off = np.abs(expected.entries - chosen.entries)
    worst = int(np.argmax(off))
    where = f"pair (R1, R2, R3, i, j) = {chosen.atom_pairs[chosen.pair_of_entry[worst]].tolist()}"
    largest = float(off[worst])
    return Gate("S as integrals", largest <= LIMIT, largest, LIMIT, detail=where if largest > LIMIT else "")


def with_overlap(data: RealSpaceHamiltonian) -> RealSpaceHamiltonian:
    """Data sets may leave S out where they tell the Gaussian basis: then it is computed, for the pairs of H.

    :raises InputError: the library does not have the basis.
    """
    spec = named_basis(data.metadata)
    if data.overlap is not None or data.hamiltonian is None or spec is None:
        return data
    integrals = _gaussian(_library(_hashable(spec), tuple(sorted(data.structure.elements))))
    return replace(data, overlap=integrals(data.structure, data.hamiltonian.atom_pairs))


def _integrals_of(data: RealSpaceHamiltonian, code: str, folder: Path) -> Integrals | None:
    """How overlaps are computed in the basis of a run, if it is known."""
    record = records().get(code)
    settings = data.metadata.get("settings")
    settings = settings if isinstance(settings, Mapping) else {}
    elements = tuple(sorted(data.structure.elements))
    try:
        # A DeepH folder tells the code that its data came from.
        library = named_basis({**data.metadata, **({} if record is None else {"code": code})})
        if library is not None:
            return _gaussian(_library(_hashable(library), elements))
        if record is not None and record.basis == BASIS_FILE:
            printed = get_reader(code).gaussians(folder, data)
            return None if printed is None else _gaussian(printed)
        if record is not None and record.basis in FORMATS:
            kind = FORMATS[str(record.basis)]
            names = _names(settings, elements)
            files = _orbital_files(Path(folder), kind.suffixes)
            return _numeric(code, files, names, elements) if files else None
    except (DeepHError, ImportError):  # another basis than the files, or a library that is not there
        return None
    return None


def _orbital_files(folder: Path, suffixes: tuple[str, ...]) -> tuple[Path, ...]:
    """Files of orbitals in a folder, or in the first below it that has some; none that a link leads to elsewhere."""
    for place in ("", "*/", "*/*/"):
        found = sorted(path for suffix in suffixes for path in folder.glob(f"{place}*{suffix}"))
        inside = [path for path in found if path.resolve().is_relative_to(folder.resolve())]
        if inside:
            return tuple(path for path in inside if path.parent == inside[0].parent)
    return ()


def _names(settings: Mapping[str, Any], elements: tuple[str, ...]) -> dict[str, str] | None:
    """Names of the orbitals of each element, where the settings tell them."""
    rows = settings.get("species") or settings.get("orbitals")
    rows = rows.values() if isinstance(rows, Mapping) else ()
    first = [row[0] if isinstance(row, list | tuple) and row else row for row in rows]
    names = [Path(name).name for name in first if isinstance(name, str)]
    found = {s: name for s in elements for name in names if re.match(rf"{s}(?![a-z])", name)}
    return found or None


def _hashable(spec: Spec) -> str | tuple[tuple[str, str], ...]:
    return spec if isinstance(spec, str) else tuple(sorted(spec.items()))


@lru_cache(maxsize=16)
def _library(spec: str | tuple[tuple[str, str], ...], elements: tuple[str, ...]) -> GaussianBasis:
    return load_basis(spec if isinstance(spec, str) else dict(spec), elements, Path())


def _gaussian(basis: GaussianBasis) -> Integrals:
    return lambda structure, pairs: overlap_gaussian(structure, basis, pairs)[1]


_TABLES: dict[str, NumericOverlap] = {}


def _numeric(code: str, files: tuple[Path, ...], names: dict[str, str] | None, elements: tuple[str, ...]) -> Integrals:
    """Tables of the last orbitals are kept: the members of a dataset have the same ones, in files of their own."""
    key = repr((code, names, elements, sorted({file_sha256(path) for path in files})))
    if key not in _TABLES:
        _TABLES.clear()
        _TABLES[key] = NumericOverlap(load_numeric(f"{code}:{files[0].parent}", names, elements, Path()))
    return _TABLES[key].overlap
