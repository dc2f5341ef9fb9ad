"""Constants of FHI-aims itself: its matrices are converted with the number that it uses for its own eigenvalues."""

AIMS_HARTREE_TO_EV = 27.2113845
