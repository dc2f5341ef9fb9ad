"""What a member is made from: raw output of a DFT code or a DeepH folder, packed or not."""

from __future__ import annotations

from pathlib import Path

from aiida_deeph.engine.dft.base import get_reader
from aiida_deeph.engine.domain.gate import Gate
from aiida_deeph.engine.domain.hamiltonian import RealSpaceHamiltonian
from aiida_deeph.engine.errors import DataError
from aiida_deeph.engine.io.archive import as_folder
from aiida_deeph.engine.io.deeph import read_deeph
from aiida_deeph.engine.io.deeph_legacy import read_legacy
from aiida_deeph.engine.preprocess.integrals import overlap_as_integrals, with_overlap


def read_source(code: str, path: Path) -> RealSpaceHamiltonian:
    """Read raw output of a code of the registry, or a DeepH folder (`deeph`, `deeph_legacy`), packed or not.

    :raises InputError: no such reader, or nothing of that kind there.
    :raises DataError: the run did not converge, or a file is damaged or holds neither H nor S.
    """
    return read_gated(code, path)[0]


def read_gated(code: str, path: Path) -> tuple[RealSpaceHamiltonian, list[Gate]]:
    """The same, and how S compares with integrals, where the run tells its basis."""
    readers = {"deeph": read_deeph, "deeph_legacy": read_legacy}
    with as_folder(path) as folder:
        data = readers[code](folder) if code in readers else get_reader(code).read(folder)
        if data.hamiltonian is None and data.overlap is None:
            raise DataError("neither H nor S", where=path, expected="a matrix of one of them")
        data = with_overlap(data)
        gate = overlap_as_integrals(data, code, folder)
    return data, [] if gate is None else [gate]
