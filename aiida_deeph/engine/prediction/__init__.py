"""H(R) of large structures."""
