"""The YAML a user writes: read, override, check, dry run, run."""
