"""Quantum ESPRESSO: pw.x and pw2bgw.x, projected onto atomic orbitals by HPRO."""
