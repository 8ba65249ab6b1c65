"""Verifiable suites: greedy answers scored item by item into an outcome table, best-of-n by a reward model."""
