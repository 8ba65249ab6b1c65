"""Objectives that fit a reward model to preferences or to the labels of steps, and ensembles of reward models."""
