"""Labelling: one DFT run of one structure, the same interface for every code."""
