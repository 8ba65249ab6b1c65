"""Checks before a run: does what is built for a stage learn what it is shown, and nothing else."""
