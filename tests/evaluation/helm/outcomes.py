"""Outcomes for tests of the grid."""

from trimpot.store.outcomes import Outcome


def outcome(item="i", score=1.0, task="t/a", perturbation="none", **fields):
    """An outcome with a score; its status follows the score unless it is given."""
    given = {
        "run": "r", "weights": "w", "task": task, "item": str(item), "cluster": str(item), "slices": {},
        "perturbation": perturbation, "prompt_ids": (), "prompt": "p", "expected": "", "output": "", "score": score,
        "status": "unscored" if score is None else "ok",
    }  # fmt: skip
    return Outcome(**{**given, **fields})
