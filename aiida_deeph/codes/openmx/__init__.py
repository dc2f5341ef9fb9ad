"""Labels by OpenMX."""
