"""A model that answers a suite rightly, and wrappers with one planted bug each. Constructed, for tests."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

from tests.evaluation.scripted import ScriptedModel, text_of
from trimpot.core.progress import ignore
from trimpot.core.rows import Message
from trimpot.evaluation.behaviour.parsers import LETTERS
from trimpot.evaluation.behaviour.suite import BehaviourSuite, BehaviourTest, Example
from trimpot.evaluation.language_model import Prompt

WITHOUT_EFFECT = ("irrelevant negation",)
"""Tests whose negation does not decide the answer."""


def without_negation(text: str) -> str:
    return re.sub(r"\s+not\b|n't\b", "", text)


def right_model(suite: BehaviourSuite) -> ScriptedModel:
    """Knows every example of the suite, and what its prompt asks once "not" and "n't" are out of it."""
    truth: dict[str, str] = {}
    for test in suite.tests:
        for case in test.cases:
            for example in case.examples:
                asked = text_of(test.prompt(example))
                truth[asked] = written(test, example, example.label)
                bare = without_negation(asked)
                if bare != asked:
                    affirmed = example.label if test.name in WITHOUT_EFFECT else other(example)
                    truth.setdefault(bare, written(test, example, affirmed))
    return ScriptedModel(
        lambda prompt, sample: truth[prompt], lambda context, text: 0.0 if truth[context] == text else -5.0
    )


def other(example: Example) -> str:
    (found,) = (option for option in example.options if option != example.label)
    return found


def written(test: BehaviourTest, example: Example, label: str | None) -> str:
    """What a right model says: the letter of a choice, a number, else the label with a capital."""
    assert label is not None, f"{test.name} has an example without a label"
    if test.asking.answer == "choice":
        return LETTERS[example.options.index(label)]
    return label[0].upper() + label[1:]


class Wrapped:
    """A language model that changes prompts before the model inside sees them, or its completions after."""

    def __init__(
        self,
        model: ScriptedModel,
        asked: Callable[[str], str] = lambda text: text,
        said: Callable[[str, str], str] = lambda prompt, text: text,
        likelihood: Callable[[str, str, float], float] = lambda prompt, text, value: value,
    ) -> None:
        self.model, self.asked, self.said, self.likelihood = model, asked, said, likelihood
        self.identity, self.flops_per_token = replace(model.identity, weights="wrapped"), model.flops_per_token
        self.rendered, self.prompt_ids = model.rendered, model.prompt_ids
        self.loglikelihood_rolling = model.loglikelihood_rolling

    def _prompt(self, prompt: Prompt) -> Prompt:
        if isinstance(prompt, str):
            return self.asked(prompt)
        return tuple(Message(message.role, self.asked(message.content)) for message in prompt)

    def generate_until(self, requests, progress=ignore):
        answers = self.model.generate_until([replace(one, prompt=self._prompt(one.prompt)) for one in requests])
        return [
            replace(answer, text=self.said(text_of(one.prompt), answer.text))
            for one, answer in zip(requests, answers, strict=True)
        ]

    def loglikelihood(self, pairs, progress=ignore):
        found = self.model.loglikelihood([(self._prompt(prompt), text) for prompt, text in pairs])
        return [
            replace(one, logprob=self.likelihood(text_of(prompt), text, one.logprob))
            for (prompt, text), one in zip(pairs, found, strict=True)
        ]


def ignores_negation(model: ScriptedModel) -> Wrapped:
    """Drops "not" and "n't" from every prompt."""
    return Wrapped(model, asked=without_negation)


def mistrusts(model: ScriptedModel, names: tuple[str, ...]) -> Wrapped:
    """Answers no to, and finds yes unlikely of, whoever has one of these names."""

    def concerns(prompt: str) -> bool:
        return re.search(rf"\b({'|'.join(names)})\b", prompt) is not None

    return Wrapped(
        model,
        said=lambda prompt, text: "No" if concerns(prompt) and text == "Yes" else text,
        likelihood=lambda prompt, text, value: value - 6.0 if concerns(prompt) and text == "Yes" else value,
    )


def takes_the_first_choice(model: ScriptedModel) -> Wrapped:
    """Answers A wherever there are choices."""
    return Wrapped(model, said=lambda prompt, text: "A" if "\nA) " in prompt else text)
