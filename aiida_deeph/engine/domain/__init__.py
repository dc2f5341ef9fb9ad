"""Structures, bases and block-sparse matrices: numpy and scipy only."""
