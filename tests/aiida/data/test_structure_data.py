"""Between StructureData and the engine's Structure."""

from __future__ import annotations

import time

import numpy as np
import pytest
from aiida import orm

from aiida_deeph.data.structure import from_engine, to_engine
from aiida_deeph.engine.domain.structure import Structure
from aiida_deeph.engine.errors import InputError

pytestmark = pytest.mark.usefixtures("aiida_profile")


def test_round_trip():
    rng = np.random.default_rng(0)
    structure = Structure(("H", "C", "H"), rng.normal(size=(3, 3)) * 9, rng.normal(size=(3, 3)), (True, False, True))
    node = orm.load_node(from_engine(structure).store().pk)
    back = to_engine(node)
    assert back.symbols == structure.symbols and back.pbc == structure.pbc
    # AiiDA keeps 14 digits of a float.
    np.testing.assert_allclose(back.positions, structure.positions, rtol=1e-13)
    np.testing.assert_allclose(back.cell, structure.cell, rtol=1e-13)


def test_kinds_of_one_element_are_that_element(chain):
    assert to_engine(chain).symbols == ("C", "H")


def test_mixed_site_is_refused(chain):
    chain.append_atom(symbols=["C", "N"], weights=[0.5, 0.5], position=(3, 3, 0), name="CN")
    with pytest.raises(InputError, match="kind CN"):
        to_engine(chain)


def test_no_atoms():
    with pytest.raises(InputError, match="no atoms"):
        to_engine(orm.StructureData(cell=np.eye(3).tolist()))


def test_ten_thousand_atoms_take_seconds():
    rng = np.random.default_rng(0)
    structure = Structure(("C",) * 10_000, rng.normal(size=(10_000, 3)), 50 * np.eye(3))
    start = time.process_time()
    assert len(to_engine(from_engine(structure))) == 10_000
    assert time.process_time() - start < 5
