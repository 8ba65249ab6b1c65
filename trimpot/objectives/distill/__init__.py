"""Objectives that teach a student its teacher's whole distribution at every token."""
