"""The command `aiida-deeph`."""
