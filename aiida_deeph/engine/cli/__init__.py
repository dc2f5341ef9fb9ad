"""The command `deeph-engine`: one file per subcommand, imported only when it is called."""
