"""Outcomes made by hand. Constructed, as the name says."""

from trimpot.store.outcomes import Outcome


def outcome(item, score, **more):
    """One outcome; ``item`` is a number or a name."""
    given = {
        "run": "r", "weights": "w", "task": "t", "item": f"item {item}", "cluster": f"item {item}", "slices": {},
        "perturbation": "none", "prompt_ids": (1, 2), "prompt": f"prompt {item}", "expected": "x", "output": "y",
        "status": "ok", "score": score,
    }  # fmt: skip
    return Outcome(**{**given, **more})


def side(scores, weights, **more):
    """Item i with score scores[i]; ``more`` may hold functions of i."""
    return [
        outcome(
            i, score, weights=weights, **{name: value(i) if callable(value) else value for name, value in more.items()}
        )
        for i, score in enumerate(scores)
    ]
