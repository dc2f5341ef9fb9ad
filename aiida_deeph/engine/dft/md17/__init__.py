"""MD17 Hamiltonians: molecules along trajectories, a data set in SQLite files of ase."""
