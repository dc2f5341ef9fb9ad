"""CalcJobs: each writes one configuration file and runs one `deeph-engine` command."""
