"""Families, structures and codes for tests of labels by Quantum ESPRESSO."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from aiida import orm
from aiida.plugins import GroupFactory

from aiida_deeph.codes.qe.families import install_gth
from tests.conftest import REQUIRE_ALL

FAMILY = "gth-pbe"


def install_families(*elements: str, label: str = FAMILY, **options) -> None:
    """GTH's pseudopotentials and Gaussian bases of some elements; what is there already stays."""
    found = GroupFactory("pseudo.family").collection.find(filters={"label": label})
    present = set(found[0].elements) if found else set()
    missing = [symbol for symbol in elements if symbol not in present]
    if missing:
        install_gth(missing, label, **options)


def other_codes(make: Callable[..., orm.InstalledCode], label: str = "qe", **options) -> dict[str, orm.InstalledCode]:
    """Codes of pw2bgw.x and of HPRO's Python that are never run; on a computer they have to be the only ones.

    :param make: the fixture `aiida_code_installed`.
    """
    programs = {"pw2bgw": ("deeph.pw", "/bin/pw2bgw.x"), "hpro": ("deeph.hpro", "/bin/true")}
    return {
        name: make(label=f"{label}-{name}", default_calc_job_plugin=plugin, filepath_executable=path, **options)
        for name, (plugin, path) in programs.items()
    }


def diamond() -> orm.StructureData:
    """A distorted cell of two carbon atoms."""
    cell = [[0.0, 1.80, 1.78], [1.78, 0.0, 1.79], [1.77, 1.78, 0.0]]
    node = orm.StructureData(cell=cell)
    for position in np.array([[0.0, 0.0, 0.0], [0.93, 0.88, 0.90]]):
        node.append_atom(symbols="C", position=position.tolist())
    return node


def hpro_python() -> str:
    """Python of an environment with HPRO and mpi4py, by AIIDA_DEEPH_HPRO_PYTHON; skips (or fails) without one."""
    path = os.environ.get("AIIDA_DEEPH_HPRO_PYTHON")
    if not path or not Path(path).is_file():
        message = "AIIDA_DEEPH_HPRO_PYTHON does not name the Python of an environment with HPRO"
        if REQUIRE_ALL:
            pytest.fail(message)
        pytest.skip(message)
    return path
