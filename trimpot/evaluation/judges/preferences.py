"""Null baselines of a preference set: rules that read nothing and are right all the same. No torch here."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trimpot.core.hashing import content_hash
from trimpot.core.rows import Messages, PreferencePair
from trimpot.core.stats import Estimate
from trimpot.evaluation.judges.baselines import LENGTH_LIMIT
from trimpot.evaluation.judges.duel import share

_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class PreferenceRule:
    """A rule, and the share of pairs in which it picks the chosen answer (½ where it cannot tell).

    ``fault``: why the set cannot tell quality from the rule; empty where it can.
    """

    name: str
    right: Estimate
    fault: str


def preference_rules(pairs: Sequence[PreferencePair], limit: float = LENGTH_LIMIT) -> list[PreferenceRule]:
    """How far three rules get that know nothing of quality.

    ``longer``: the answer with more characters. ``copies the prompt``: the one with the larger share of its words in
    the prompt. ``constant``: the one whose exact text is chosen more often than rejected in rows of other prompts. A
    rule is a fault where it, or its opposite, is shown to be right in more than ``limit`` of the pairs (the nearer
    bound of the interval is beyond it): whatever is trained or measured on the set may learn the rule alone.

    Example: 30 pairs, chosen always longer: 30 of 30, Wilson's interval [0.89, 1]: the set is unusable.
    Edge cases: no pairs: None and no fault. Pairs of one prompt are one unit.
    Source: ours; the case is reward-bench issue 267, where "the longer" is right in all pairs of two subsets.
    """
    prompts = [content_hash([message.as_dict() for message in pair.prompt]) for pair in pairs]
    values = {
        "longer": [_sign(len(text_of(pair.chosen)) - len(text_of(pair.rejected))) for pair in pairs],
        "copies the prompt": [_sign(_overlap(pair, pair.chosen) - _overlap(pair, pair.rejected)) for pair in pairs],
        "constant": _constant(pairs, prompts),
    }
    return [_rule(name, found, prompts, limit) for name, found in values.items()]


def text_of(answer: Messages) -> str:
    """The words of an answer's assistant turns."""
    return "\n".join(message.content for message in answer if message.role == "assistant")


def _rule(name: str, values: Sequence[float], units: Sequence[str], limit: float) -> PreferenceRule:
    right, fault = share(values, units), ""
    if right.value is not None and right.low is not None and right.high is not None:
        shown = f"{100 * right.value:.0f}% of {len(values)} pairs [{100 * right.low:.0f}, {100 * right.high:.0f}]"
        if right.low > limit:
            fault = f"{name}: is right in {shown}, so that the set cannot tell quality from it"
        elif right.high < 1 - limit:
            fault = f"{name}: is wrong in all but {shown}, so that the set cannot tell quality from its opposite"
    return PreferenceRule(name, right, fault)


def _sign(difference: float) -> float:
    return float((1 + np.sign(difference)) / 2)


def _overlap(pair: PreferencePair, answer: Messages) -> float:
    asked = set(_WORD.findall(" ".join(message.content for message in pair.prompt).lower()))
    words = _WORD.findall(text_of(answer).lower())
    return sum(word in asked for word in words) / len(words) if words else 0.0


def _constant(pairs: Sequence[PreferencePair], prompts: Sequence[str]) -> list[float]:
    """By balance over other prompts, so that a text does not vote for itself.

    A balance within two standard errors (√votes) of 0 is no vote: in a balanced set, taking the row itself out would
    else make every text lose by one.
    """
    balances: Counter[str] = Counter()
    votes: Counter[str] = Counter()
    own_balances: Counter[tuple[str, str]] = Counter()
    own_votes: Counter[tuple[str, str]] = Counter()
    for pair, prompt in zip(pairs, prompts, strict=True):
        for answer, vote in ((pair.chosen, 1), (pair.rejected, -1)):
            text = text_of(answer)
            balances[text] += vote
            votes[text] += 1
            own_balances[prompt, text] += vote
            own_votes[prompt, text] += 1

    def standing(prompt: str, answer: Messages) -> int:
        text = text_of(answer)
        balance, count = balances[text] - own_balances[prompt, text], votes[text] - own_votes[prompt, text]
        return balance if balance * balance > 4 * count else 0

    return [
        _sign(standing(prompt, pair.chosen) - standing(prompt, pair.rejected))
        for pair, prompt in zip(pairs, prompts, strict=True)
    ]
