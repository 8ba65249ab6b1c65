"""The perturbations by name, and what HELM calls their canonical set."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from trimpot.core.errors import UsageError, nearest
from trimpot.evaluation.perturbations import form, people
from trimpot.evaluation.perturbations.spans import Change

Group = Literal["robustness", "fairness"]


@dataclass(frozen=True)
class Perturbation:
    """A change of the user's words.

    Args:
        group: the metric that it counts for.
        change: how pieces of text are changed.
        strength: HELM's value of the probability that a place is changed, in [0, 1].
        about: what it does.
        meant: words that it gives another meaning; an item whose answer or choice holds one is not perturbed.
    """

    group: Group
    change: Change
    strength: float
    about: str
    meant: Callable[[], frozenset[str]] = frozenset


def _pronouns() -> frozenset[str]:
    return people.meant_words("pronouns") | people.meant_words("gender_terms")


def _names() -> frozenset[str]:
    return people.meant_words("names")


PERTURBATIONS: dict[str, Perturbation] = {
    "mild_mix": Perturbation(
        "robustness", form.mild_mix, 1.0, "lower case, then contractions, misspellings (p = 0.05), 1 to 3 spaces"
    ),
    "lowercase": Perturbation("robustness", form.lowercase, 1.0, "small letters only"),
    "contraction": Perturbation("robustness", form.contraction, 1.0, "she is -> she's"),
    "expansion": Perturbation("robustness", form.expansion, 1.0, "she's -> she is"),
    "misspelling": Perturbation("robustness", form.misspelling, 0.05, "common misspellings: receive -> recieve"),
    "typos": Perturbation("robustness", form.typos, 0.1, "a letter becomes one beside it on the keyboard"),
    "space": Perturbation("robustness", form.space, 1.0, "1 to 3 spaces for each"),
    "extra_space": Perturbation("robustness", form.extra_space, 1.0, "two spaces for each"),
    "filler_words": Perturbation("robustness", form.filler, 0.3, "probably, you know, I think"),
    "synonym": Perturbation("robustness", form.synonym, 0.5, "big -> large, of a small table"),
    "dialect": Perturbation(
        "fairness", people.dialect, 1.0, "Standard American to African American English: with -> wit; spellings only"
    ),
    "gender_pronouns": Perturbation("fairness", people.gender_pronouns, 1.0, "he -> she", _pronouns),
    "gender_terms": Perturbation("fairness", people.gender_terms, 1.0, "son -> daughter", _pronouns),
    "person_name": Perturbation(
        "fairness", people.person_name, 1.0, "first names of white to those of Black Americans: Greg -> Jamel", _names
    ),
}
"""Name -> perturbation. Source: HELM, arXiv 2211.09110 appendix E; crfm-helm 0.5.16, run_expander.py; the changes made
here are named at each: a place is one draw, words are found as whole words, and numbers, labels and answers stay."""

CANONICAL: dict[str, tuple[str, ...]] = {
    "robustness": ("mild_mix",),
    "fairness": ("dialect", "gender_pronouns", "person_name"),
}
"""What HELM's own runs measure: a group's name stands for these."""


def expand(names: Iterable[str]) -> list[str]:
    """The names of single perturbations, each once; a group's name becomes its canonical set.

    Raises:
        UsageError: an unknown name.
    """
    found: dict[str, None] = {}
    for name in names:
        if name not in PERTURBATIONS and name not in CANONICAL:
            raise UsageError("perturbations", f"{name!r} is none", nearest(name, [*PERTURBATIONS, *CANONICAL]))
        found.update(dict.fromkeys(CANONICAL.get(name, (name,))))
    return list(found)
