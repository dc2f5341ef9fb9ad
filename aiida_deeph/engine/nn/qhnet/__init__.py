"""QHNet: the second network of the field, for molecules first."""
