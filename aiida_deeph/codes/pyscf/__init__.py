"""Labels by PySCF, with a runner of our own."""
