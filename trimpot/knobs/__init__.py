"""Sources, claims and cards as data, the evidence studies left, and the check that ties a number to either."""
