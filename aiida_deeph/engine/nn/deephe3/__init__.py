"""DeepH-E3, as published, and with a two-centre start."""
