"""What a reader of a DFT code is, and the registry of those that exist."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Protocol

from aiida_deeph.engine.domain.hamiltonian import RealSpaceHamiltonian
from aiida_deeph.engine.errors import InputError


class HamiltonianReader(Protocol):
    """Turns the raw output of one DFT code into H(R) and S(R) in the package's conventions.

    :param code: name in the registry.
    """

    code: str

    def read(self, directory: Path) -> RealSpaceHamiltonian:
        """Read a run where it lies; `metadata` holds code, version, settings and converged.

        :raises InputError: not a run of this code, or a file is missing.
        :raises DataError: the run did not converge, or a file is damaged.
        """
        ...


# Code -> module:class, imported only when asked for.
READERS: dict[str, str] = {
    "abacus": "aiida_deeph.engine.dft.abacus.reader:AbacusReader",
    "aims": "aiida_deeph.engine.dft.aims.reader:AimsReader",
    "cp2k": "aiida_deeph.engine.dft.cp2k.reader:Cp2kReader",
    "openmx": "aiida_deeph.engine.dft.openmx.reader:OpenmxReader",
    "pyscf": "aiida_deeph.engine.dft.pyscf.reader:PyscfReader",
    "qe": "aiida_deeph.engine.dft.qe.reader:QeReader",
    "siesta": "aiida_deeph.engine.dft.siesta.reader:SiestaReader",
}


def get_reader(code: str) -> HamiltonianReader:
    """The reader of a code.

    :raises InputError: no such reader.
    """
    if code not in READERS:
        raise InputError("no reader for this code", found=code, expected=f"one of {', '.join(sorted(READERS))}")
    module, name = READERS[code].split(":")
    reader: HamiltonianReader = getattr(importlib.import_module(module), name)()
    return reader
