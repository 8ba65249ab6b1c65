"""Intervals, paired and clustered comparisons, power, correlation and correction for many tests."""
