"""Networks that map a structure to H."""
