"""Objectives that fit a reward model to preferences."""
