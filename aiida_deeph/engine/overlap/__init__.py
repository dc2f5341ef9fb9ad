"""S(R) of any structure without a DFT run."""
