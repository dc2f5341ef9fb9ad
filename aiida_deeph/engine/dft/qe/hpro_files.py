"""Orbitals in the form that HPRO reads: tables like those of `.ion` files, whatever code the orbitals come from.

HPRO also reads GPAW's tables, but guesses where they end and thereby loses atom pairs; `.ion` states it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.interpolate import CubicSpline

from aiida_deeph.engine.errors import DataError, InputError
from aiida_deeph.engine.orbitals.formats import suffix_of
from aiida_deeph.engine.orbitals.ion import read_ion, read_ion_xml
from aiida_deeph.engine.orbitals.orb import read_orb
from aiida_deeph.engine.orbitals.radial import RadialShell, Real

# HPRO takes no other number.
N_POINTS = 500


def read_shells(text: str, file_name: str) -> tuple[str, float | None, tuple[RadialShell, ...]]:
    """Element, valence electrons (None if the file does not say it) and shells of a file of `.orb` or `.ion`.

    :raises InputError: the file is of another code.
    :raises DataError: it is damaged.
    """
    suffix = suffix_of(file_name)
    if suffix == ".orb":
        element, shells = read_orb(text, file_name)
        return element, None, shells
    if suffix == ".pao":
        remedy = "OpenMX's orbitals belong to its own pseudopotentials"
        raise InputError("no such orbitals", found=file_name, expected=".orb, .ion or .ion.xml", remedy=remedy)
    return read_ion_xml(text, file_name) if suffix == ".ion.xml" else read_ion(text, file_name)


def hpro_ion(symbol: str, valence: float, shells: Sequence[RadialShell], where: object) -> str:
    """Text of `SYMBOL.ion` with the orbitals alone.

    :param valence: electrons that the pseudopotential leaves.
    :param shells: by ascending l, as HPRO orders them.
    :param where: what to name in errors.
    :raises DataError: the shells are in another order.
    """
    ls = [shell.l for shell in shells]
    if ls != sorted(ls):
        raise DataError("shells are not in the order of l", where=where, found=ls, expected=sorted(ls))
    lines = ["<preamble>", "</preamble>", f"{symbol:<4} # Symbol", f"{valence:12.6f} # Valence charge", "# PAOs:______"]
    for index, shell in enumerate(shells):
        r, values = table(shell)
        zeta = ls[: index + 1].count(shell.l)
        lines.append(f"{shell.l:3d} {shell.l + 1:2d} {zeta:2d} 0 0.000000 #orbital l, n, z, is_polarized, population")
        lines.append(f"{N_POINTS} {r[1]:.16e} {r[-1]:.16e} # npts, delta, cutoff")
        lines += [f"{x:.16e} {value:.16e}" for x, value in zip(r, values, strict=True)]
    return "\n".join(lines) + "\n"


def table(shell: RadialShell) -> tuple[Real, Real]:
    """r and R / r^l on N_POINTS even steps from zero to where the shell ends, Bohr.

    Between the points of the source a cubic spline; a table on these very points is taken over digit by digit.
    """
    last = min(int(np.flatnonzero(shell.values)[-1]) + 1, len(shell.r) - 1)
    r = np.linspace(0.0, shell.r[last], N_POINTS)
    if last == N_POINTS - 1 and np.allclose(shell.r[: last + 1], r, rtol=0, atol=1e-9):
        values = shell.values[: last + 1].copy()
    else:
        values = CubicSpline(shell.r, shell.values)(np.clip(r, shell.r[0], None))
        values *= np.where(r < shell.r[0], r / max(shell.r[0], 1e-300), 1.0) ** shell.l
    values[1:] /= r[1:] ** shell.l
    # Even functions of r: the parabola through the next two points.
    values[0] = values[0] if shell.l == 0 else (4 * values[1] - values[2]) / 3
    return r, values
