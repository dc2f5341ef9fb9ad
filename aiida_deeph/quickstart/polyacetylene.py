"""Geometry of trans-polyacetylene: small cells with any bond alternation, and a long chain with a domain wall.

The chain runs along x; its CH units lie on a zigzag, and the bond after unit n has the length
r0 + (-1)^n a_n with the alternation a_n (Su, Schrieffer, Heeger, Phys. Rev. Lett. 42, 1698 (1979)).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from aiida_deeph.engine.domain.structure import Structure
from aiida_deeph.engine.errors import InputError

MEAN_BOND = 1.40
CCC_ANGLE = 124.4
CH_BOND = 1.09
VACUUM = 9.0


def chain(bonds: NDArray[np.float64], *, vacuum: float = VACUUM) -> Structure:
    """A periodic chain of CH units, C and H atoms unit by unit: C, H, C, H, ...

    An odd number of units cannot close as a flat zigzag: its plane is turned by half a turn over the cell, pi / n_units
    per unit, so that the last unit meets the first one. Locally such a chain is flat. Periodic along x only.

    :param bonds: length of the C-C bond after each unit, shape (n_units,), Angstrom.
    :param vacuum: width of the cell across the chain, Angstrom.
    :raises InputError: fewer than 4 units, or a bond too short for the zigzag.
    """
    n_units = len(bonds)
    if n_units < 4:
        raise InputError("chain too short", where="bonds", found=f"{n_units} CH units", expected="at least 4")
    height = MEAN_BOND * np.cos(np.radians(CCC_ANGLE / 2))
    if np.min(bonds) <= height:
        raise InputError(
            "C-C bond too short", where="bonds", found=f"{np.min(bonds):.3f} Angstrom", expected=f"> {height:.3f}"
        )
    steps = np.sqrt(np.square(bonds) - height**2)
    length = float(steps.sum())
    x = np.concatenate([[0.0], np.cumsum(steps)[:-1]])
    angle = np.pi * x / length if n_units % 2 else np.zeros(n_units)
    side = np.where(np.arange(n_units) % 2, -0.5, 0.5) * height
    carbon = np.stack([x, side * np.cos(angle), side * np.sin(angle)], axis=1)
    before, after = np.roll(carbon, 1, axis=0), np.roll(carbon, -1, axis=0)
    before[0, 0] -= length
    after[-1, 0] += length

    def unit(vector: NDArray[np.float64]) -> NDArray[np.float64]:
        return vector / np.linalg.norm(vector, axis=1, keepdims=True)

    # Each hydrogen lies on the outer bisector of its carbon's two bonds.
    hydrogen = carbon - CH_BOND * unit(unit(before - carbon) + unit(after - carbon))
    positions = np.stack([carbon, hydrogen], axis=1).reshape(-1, 3) + np.array([0.0, vacuum / 2, vacuum / 2])
    return Structure(("C", "H") * n_units, positions, np.diag([length, vacuum, vacuum]), (True, False, False))


def dimerised(n_units: int, alternation: float, *, vacuum: float = VACUUM) -> Structure:
    """A uniformly dimerised chain.

    :param alternation: a of the bonds r0 + a, r0 - a, Angstrom; its sign chooses one of the two ground states.
    :raises InputError: an odd number of units.
    """
    if n_units % 2:
        raise InputError(
            "uniform dimerisation needs pairs of CH units", where="n_units", found=n_units, expected="an even number"
        )
    return chain(MEAN_BOND + alternation * (-1.0) ** np.arange(n_units), vacuum=vacuum)


def perturbed(
    n_units: int, alternation: float, displacement: float, rng: np.random.Generator, *, vacuum: float = VACUUM
) -> Structure:
    """A dimerised cell whose atoms are displaced at random.

    :param displacement: standard deviation of each Cartesian coordinate, Angstrom (cut at two standard deviations).
    """
    flat = dimerised(n_units, alternation, vacuum=vacuum)
    moves = np.clip(rng.normal(size=flat.positions.shape), -2, 2) * displacement
    return Structure(flat.symbols, flat.positions + moves, flat.cell, flat.pbc)


def soliton(n_units: int, alternation: float, half_width: float, *, vacuum: float = VACUUM) -> Structure:
    """A chain in which the two ground states meet: a_n = a tanh((n - n0) / half_width) with the wall in the middle.

    With an odd number of units the alternation changes its sign once more at the periodic boundary by counting alone,
    so that the cell holds exactly one domain wall.

    :param n_units: odd number of CH units; the cell has 2 n_units atoms.
    :param half_width: in CH units.
    :raises InputError: an even number of units.
    """
    if n_units % 2 == 0:
        raise InputError("one domain wall needs an odd chain", where="n_units", found=n_units, expected="an odd number")
    # Bond n joins the units n and n + 1; the wall sits on the unit in the middle, whose two bonds are alike.
    n = np.arange(n_units)
    wall = n + 0.5 - n_units // 2
    return chain(MEAN_BOND + alternation * (-1.0) ** n * np.tanh(wall / half_width), vacuum=vacuum)
