"""Constants of ABACUS 3 itself: its files are converted with the numbers that it used."""

ABACUS_RYDBERG_TO_EV = 13.605698
# In positions that STRU gives in Angstrom; everything else is in Bohr.
ABACUS_BOHR_TO_ANGSTROM = 0.529177
