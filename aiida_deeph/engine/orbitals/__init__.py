"""Radial functions of numerical and Gaussian orbitals, and the harmonics they are multiplied with."""
