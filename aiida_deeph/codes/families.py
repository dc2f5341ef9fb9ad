"""What codes know of families of orbitals and pseudopotentials: the module `families` of a code's folder.

Such a module may hold `command`, which joins `aiida-deeph data`, and `database`, which knows a folder of the code's own
files.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import click

from aiida_deeph import codes
from aiida_deeph.engine.dft.base import records


@dataclass(frozen=True)
class Database:
    """A folder of files.

    :param orbitals: folder of the files of orbitals.
    :param pseudos: one pseudopotential of each element.
    :param kind: of the pseudopotentials, as aiida-pseudo calls it.
    """

    orbitals: Path
    pseudos: Sequence[Path]
    kind: str


def commands() -> list[click.Command]:
    """Commands that make families."""
    return [module.command for module in _modules() if hasattr(module, "command")]


def database_of(folder: Path) -> Database:
    """What a folder holds: in the layout of a code's own database, or files side by side."""
    for module in _modules():
        found: Database | None = module.database(folder) if hasattr(module, "database") else None
        if found is not None:
            return found
    upfs = sorted(path for path in folder.iterdir() if path.suffix.lower() == ".upf")
    return Database(folder, upfs, "upf")


def _modules() -> Iterator[ModuleType]:
    for name in records():
        module = f"{codes.__name__}.{name}"
        if importlib.util.find_spec(module) and importlib.util.find_spec(f"{module}.families"):
            yield importlib.import_module(f"{module}.families")
