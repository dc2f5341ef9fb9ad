"""Labels by Quantum ESPRESSO and HPRO."""
