"""Physical constants (CODATA 2018) and the units of the engine: eV and Angstrom.

Constants that a code's own files imply live in that code's reader, not here.
"""

HARTREE_TO_EV = 27.211386245988
BOHR_TO_ANGSTROM = 0.529177210903
