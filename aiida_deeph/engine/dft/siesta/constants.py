"""Constants of SIESTA itself: its files are converted with the numbers that it used for its input."""

from __future__ import annotations

from dataclasses import dataclass

from aiida_deeph.engine.orbitals.ion import ION_BOHR_TO_ANGSTROM
from aiida_deeph.engine.units import BOHR_TO_ANGSTROM, RYDBERG_TO_EV


@dataclass(frozen=True)
class SiestaUnits:
    """Rydberg in eV and Bohr in Angstrom, as a version of SIESTA has them."""

    rydberg: float
    bohr: float


# Up to 4.1 and its MaX releases the constants are these; SIESTA 5 has those of CODATA 2018.
SIESTA_4 = SiestaUnits(13.60580, ION_BOHR_TO_ANGSTROM)
SIESTA_5 = SiestaUnits(RYDBERG_TO_EV, BOHR_TO_ANGSTROM)
