"""The checks by name, in the order they are made; this file imports nothing, so that a recipe can be read quickly."""

from __future__ import annotations

CHECK_IDS = (
    # Rows: nothing is run
    "duplicates",
    "train_test_overlap",
    "empty_targets",
    "truncation",
    "decoded_targets",
    "template",
    # The model: a few passes
    "initial_loss",
    "zeroed_input",
    "gradient_across_rows",
    "future_leak",
    "packed_documents",
    "evaluation_batches",
    "rollout_trainer",
    # The step: a few passes with gradients
    "same_seed",
    "accumulation",
    "gradients_reach",
    "loop_loss",
    # Short runs
    "overfit",
    "zeroed_input_trained",
    "capacity",
    "baselines",
    "learning_rate",
    "fixed_batch",
    "save_resume",
    "memory_estimate",
)
"""What ``preflight.skip`` and ``--check`` may name."""
