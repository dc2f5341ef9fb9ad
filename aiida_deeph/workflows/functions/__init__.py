"""CalcFunctions of the workflows: what is computed between the jobs, with provenance."""
