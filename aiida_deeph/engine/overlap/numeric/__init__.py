"""S(R) of numerical atomic orbitals: two-centre integrals by spherical Bessel transform."""
