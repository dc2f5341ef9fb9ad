"""Entry point of `aiida-deeph`."""
