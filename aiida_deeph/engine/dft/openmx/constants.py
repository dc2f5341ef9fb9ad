"""Constants of OpenMX 3.9 itself: its files are converted with the numbers that it used for its input."""

from aiida_deeph.engine.orbitals.pao import PAO_BOHR_TO_ANGSTROM

OPENMX_HARTREE_TO_EV = 27.2113845
OPENMX_BOHR_TO_ANGSTROM = PAO_BOHR_TO_ANGSTROM
