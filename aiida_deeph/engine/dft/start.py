"""H of the density that an SCF starts from: what a network need not learn, where only the rest is its target.

It costs one Fock matrix and no SCF, and is 10 to 20 times nearer to the converged H than nothing.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from aiida_deeph.engine import dft
from aiida_deeph.engine.dft.base import records
from aiida_deeph.engine.domain.blocksparse import BlockSparseMatrix
from aiida_deeph.engine.domain.hamiltonian import RealSpaceHamiltonian
from aiida_deeph.engine.errors import DataError


def is_subtracted(source: Mapping[str, Any]) -> bool:
    """Whether a dataset, or the data of a model, hold H without it.

    :param source: of the manifest.
    """
    return source.get("preprocess", {}).get("subtract_start") is True


def settings_of(source: Mapping[str, Any]) -> Mapping[str, Any]:
    """Settings of all labels of a dataset.

    :param source: of the manifest.
    :raises DataError: they differ, or are not known.
    """
    settings = source.get("labels", {}).get("settings")
    if not isinstance(settings, Mapping):
        found = "several" if isinstance(settings, list) else "none"
        raise DataError("H of the start is not defined", where="settings of the labels", found=found, expected="one")
    return settings


def with_start(data: RealSpaceHamiltonian, settings: Mapping[str, Any], sign: int = 1) -> RealSpaceHamiltonian:
    """H plus (sign 1) or minus (-1) that of the start, on the pairs of H; nothing else changes.

    :param settings: of the labels: functional, basis, grids.
    :raises DataError: H is missing, or of another basis or spin.
    """
    if data.hamiltonian is None:
        raise DataError("no Hamiltonian in this data")
    name, module = next((record.name, record.start) for record in records().values() if record.start)
    computed = importlib.import_module(f"{dft.__name__}.{name}.{module}").start_hamiltonian(data.structure, settings)
    start: BlockSparseMatrix = computed.hamiltonian
    if computed.basis.shells != {symbol: data.basis.shells_of(symbol) for symbol in computed.basis.shells}:
        raise DataError("H of the start is of another basis", found=computed.basis.shells, expected=data.basis.shells)
    if computed.spin is not data.spin:
        raise DataError("H of the start is of another spin", found=computed.spin, expected=data.spin)
    pairs = data.hamiltonian.atom_pairs
    own = start.aligned_to(pairs, data.rows_per_atom)
    return replace(data, hamiltonian=data.hamiltonian.with_entries(data.hamiltonian.entries + sign * own.entries))
