"""QH9: Hamiltonians of the molecules of QM9, a data set in SQLite files."""
