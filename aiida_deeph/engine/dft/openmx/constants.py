"""Constants of OpenMX 3.9 itself: its files are converted with the numbers that it used for its input."""

OPENMX_HARTREE_TO_EV = 27.2113845
OPENMX_BOHR_TO_ANGSTROM = 0.529177249
