"""Slices: scores by metadata and by crossings of two, and slices that are discovered and then validated."""
