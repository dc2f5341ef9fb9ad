"""ABACUS 3 (LCAO): H(R) and S(R) in CSR files, `running_*.log`, STRU, eigenvalues."""
