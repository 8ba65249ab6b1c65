"""Perturbations: HELM's changes of what is asked that leave the right answer as it is, for robustness and fairness."""
