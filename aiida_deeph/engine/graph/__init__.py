"""Neighbours to torch-geometric graphs."""
