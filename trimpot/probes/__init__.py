"""Measurements of a training step and of a loss surface: noise scale, run health, sharpness, Hessian, precision."""
