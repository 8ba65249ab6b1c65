"""Failure labs: real training runs with a fault in them, and the same runs without; which detectors fire."""
