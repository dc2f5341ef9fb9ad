"""Labels by CP2K, through aiida-cp2k."""
