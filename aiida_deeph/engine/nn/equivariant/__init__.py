"""What all equivariant networks share: irreps, features, frames, linear maps, products, norms, gates."""
