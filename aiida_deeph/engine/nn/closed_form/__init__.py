"""The closed-form three-centre Hamiltonian: equivariant features, fitted by least squares."""
