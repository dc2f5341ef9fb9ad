"""CP2K: real-space CSR files."""
