"""Intervals, paired and clustered comparisons, power, correlation, calibration and correction for many tests."""
