"""Recomputation measured: bytes kept and at the peak against the formula, operations, time, and equal gradients."""
