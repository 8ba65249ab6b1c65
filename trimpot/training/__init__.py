"""The one loop: draws samples, computes the streams an objective needs, steps; optimiser, checkpoint and resume."""
