"""OpenMX 3.9: `.scfout` (H(R), S(R)), `.out` and `.Band`."""
