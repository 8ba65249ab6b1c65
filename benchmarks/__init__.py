"""Benchmarks: trimpot and its peers in turn, each in a process of its own; `python -m benchmarks --help`."""
