"""Pairwise judges and raters: both orders, null baselines, length-controlled win rates, agreement and mislabels."""
