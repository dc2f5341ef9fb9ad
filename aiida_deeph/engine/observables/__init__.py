"""What is computed from H(R) and S(R): bands, densities of states, Fermi levels, comparison, unfolding."""
