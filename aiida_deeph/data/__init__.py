"""AiiDA's nouns: Hamiltonians, models, datasets."""
