"""OrbitalBasis and SpinMode."""

from __future__ import annotations

import numpy as np
import pytest

from aiida_deeph.engine.domain.basis import OrbitalBasis, SpinMode
from aiida_deeph.engine.errors import DataError, InputError


def test_orbitals() -> None:
    basis = OrbitalBasis({"C": (0, 0, 1, 1, 2), "H": (0,)})
    assert basis.elements == ("C", "H")
    assert basis.n_orbitals("C") == 13
    np.testing.assert_array_equal(basis.orbitals_per_atom("HCH"), [1, 13, 1])


def test_unknown_element_is_named() -> None:
    with pytest.raises(InputError, match="found Xe; expected one of C, H"):
        OrbitalBasis({"C": (0,), "H": (0,)}).orbitals_per_atom(["C", "Xe"])


@pytest.mark.parametrize("shells", [(), (-1,), (0.5,)])
def test_wrong_shells(shells: tuple) -> None:
    with pytest.raises(InputError, match="basis of C"):
        OrbitalBasis({"C": shells})


def test_union() -> None:
    carbon = OrbitalBasis({"C": (0, 1)})
    assert carbon.union(OrbitalBasis({"H": (0,), "C": (0, 1)})).shells == {"C": (0, 1), "H": (0,)}
    with pytest.raises(DataError, match="two bases for one element"):
        carbon.union(OrbitalBasis({"C": (0, 0, 1)}))


@pytest.mark.parametrize(
    ("spin", "multiplicity", "kind", "electrons"),
    [(SpinMode.NONE, 1, "f", 2), (SpinMode.COLLINEAR, 2, "c", 1), (SpinMode.NONCOLLINEAR, 2, "c", 1)],
)
def test_spin(spin: SpinMode, multiplicity: int, kind: str, electrons: int) -> None:
    assert (spin.multiplicity, spin.dtype.kind, spin.electrons_per_state) == (multiplicity, kind, electrons)
