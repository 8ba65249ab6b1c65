"""Generation on the training weights, verifiers and rewards, and rollouts as a source of samples."""
