"""DFT codes of the AiiDA wing: a folder each with CalcJob, parser and label WorkChain, and what they share."""
