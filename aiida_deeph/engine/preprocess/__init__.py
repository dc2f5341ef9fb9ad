"""Raw DFT output to gated datasets."""
