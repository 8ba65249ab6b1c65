"""Behavioural tests (CheckList): minimum functionality, invariance and direction, by capability, on parsed answers."""
