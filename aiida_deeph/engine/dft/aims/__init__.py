"""FHI-aims: H(R), S(R) of `output_rs_matrices` (rs_*.out, rs_*.h5), geometry.in, basis-indices.out, main output."""
