"""Import and export of the checkpoints of the published codes."""
