"""What a reader of a DFT code is, and the registry of the codes: every folder here that has a record."""

from __future__ import annotations

import importlib
import math
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar

from aiida_deeph.engine import dft
from aiida_deeph.engine.dft.record import CodeRecord
from aiida_deeph.engine.errors import DataError, InputError

if TYPE_CHECKING:
    from aiida_deeph.engine.domain.hamiltonian import RealSpaceHamiltonian
    from aiida_deeph.engine.orbitals.gaussian import GaussianBasis


class HamiltonianReader(ABC):
    """Turns the raw output of one DFT code into H(R) and S(R) in the package's conventions."""

    record: ClassVar[CodeRecord]

    def read(self, directory: Path) -> RealSpaceHamiltonian:
        """Read a run where it lies; `metadata` holds code, version, settings and converged.

        :raises InputError: not a run of this code, or a file is missing.
        :raises DataError: the run did not converge, or a file is damaged.
        """
        from aiida_deeph.engine.domain.checks import finite

        data = self._read(Path(directory))
        matrices = {"H": data.hamiltonian, "S": data.overlap}
        gates = [finite(name, matrix) for name, matrix in matrices.items() if matrix is not None]
        wrong = [str(gate) for gate in gates if not gate.passed]
        for name, value in (("Fermi level", data.fermi_energy), ("number of electrons", data.n_electrons)):
            if value is not None and not math.isfinite(value):
                wrong.append(f"{name} {value}")
        if wrong:
            raise DataError("numbers that are none", where=directory, found="; ".join(wrong), expected="finite numbers")
        return data

    @abstractmethod
    def _read(self, directory: Path) -> RealSpaceHamiltonian:
        """See `read`."""

    def gaussians(self, directory: Path, data: RealSpaceHamiltonian) -> GaussianBasis | None:
        """The Gaussians of a run that has been read, if it prints or names them; then its S is held against theirs."""
        return None


@cache
def records() -> Mapping[str, CodeRecord]:
    """Record of each code by its name."""
    folders = sorted(module.name for module in pkgutil.iter_modules(dft.__path__) if module.ispkg)
    found = [importlib.import_module(f"{dft.__name__}.{folder}.code").RECORD for folder in folders]
    return MappingProxyType({record.name: record for record in found})


def get_record(code: str) -> CodeRecord:
    """The record of a code.

    :raises InputError: no such code.
    """
    if code not in records():
        raise InputError("no reader for this code", found=code, expected=f"one of {', '.join(records())}")
    return records()[code]


def code_of_format(kind: str) -> str:
    """The code whose orbitals have a format.

    :param kind: key of `formats.FORMATS`.
    """
    return next(record.name for record in records().values() if record.basis == kind)


def get_reader(code: str) -> HamiltonianReader:
    """The reader of a code, whose libraries are imported now.

    :raises InputError: no such code.
    """
    record = get_record(code)
    module = importlib.import_module(f"{dft.__name__}.{code}.reader")
    reader: HamiltonianReader = getattr(module, record.reader)()
    return reader
