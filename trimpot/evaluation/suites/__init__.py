"""Suites that need no network: tasks made from a seed, from the package's own text and from what others carry."""
