"""Bloch sums and eigenvalues, dense and sparse; factorisation, slices, moments: matrices in, numbers out."""
