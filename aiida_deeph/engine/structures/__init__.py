"""Structures by rule and by chance: twisted bilayers, supercells, defects, and cells drawn around a parent."""
