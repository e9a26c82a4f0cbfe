"""The command line: one file for each subcommand, imported when it is called for."""
