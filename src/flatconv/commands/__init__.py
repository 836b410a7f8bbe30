"""The commands, one a file; ``flatconv.cli`` lists them and turns errors into sentences and exit codes."""
