"""The quickstart: polyacetylene from DFT labels to the mid-gap state of a soliton, in one command."""
