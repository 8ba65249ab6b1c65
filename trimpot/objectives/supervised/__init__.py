"""Objectives that imitate given tokens."""
