"""SIESTA 4.1 and 5: `.HSX`, `.TSHS` (H(R), S(R)), main output, `.ORB_INDX`, `.XV`, `.bands`, `.EIG`."""
