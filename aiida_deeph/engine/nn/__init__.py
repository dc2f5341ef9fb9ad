"""DeepH-E3, the E(3)-equivariant network."""
