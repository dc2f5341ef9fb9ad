"""Bands, densities of states and Fermi levels."""
