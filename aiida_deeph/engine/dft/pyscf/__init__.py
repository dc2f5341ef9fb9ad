"""PySCF: periodic Gaussian calculations from a Python wheel."""
