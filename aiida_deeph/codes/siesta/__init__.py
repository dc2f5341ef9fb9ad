"""Labels by SIESTA."""
