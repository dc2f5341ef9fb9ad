"""Deep-learning DFT Hamiltonians (DeepH-E3) with full provenance in AiiDA."""

__version__ = "0.1.0"
