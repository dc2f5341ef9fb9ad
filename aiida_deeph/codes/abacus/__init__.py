"""Labels by ABACUS."""
