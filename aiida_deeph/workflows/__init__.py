"""WorkChains and their protocols."""
