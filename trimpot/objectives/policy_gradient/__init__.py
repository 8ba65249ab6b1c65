"""Objectives that follow a reward through sampled completions, and the advantages they read."""
