"""A behavioural suite on a model: every example asked once, every case judged. No torch here."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from trimpot.core.progress import Progress, ignore
from trimpot.evaluation.behaviour.expectations import Answer, Verdict, outcome_of
from trimpot.evaluation.behaviour.parsers import parse
from trimpot.evaluation.behaviour.suite import BehaviourSuite, BehaviourTest, Case, Example
from trimpot.evaluation.language_model import Generation, LanguageModel, Likelihood, Prompt, Request
from trimpot.store.outcomes import UNPERTURBED, Outcome

BETWEEN = "\n---\n"
"""Between the prompts, and the outputs, of a case's examples in its outcome."""


@dataclass(frozen=True)
class CaseResult:
    """A case with a model's answers, one verdict for each example, and how the case comes out."""

    test: BehaviourTest
    case: Case
    answers: tuple[Answer, ...]
    verdicts: tuple[Verdict, ...]

    @property
    def verdict(self) -> Verdict:
        """See ``expectations.outcome_of``."""
        return outcome_of(self.verdicts)

    @property
    def decisive(self) -> int:
        """The place of the example that decided: the first with the case's own verdict."""
        return self.verdicts.index(self.verdict)


@dataclass(frozen=True)
class BehaviourRun:
    """A suite's cases on one model. ``name`` is for people; ``seconds`` is what asking took."""

    name: str
    weights: str
    suite: str
    results: tuple[CaseResult, ...]
    seconds: float


def run_suite(
    model: LanguageModel, suite: BehaviourSuite, name: str | None = None, progress: Progress = ignore
) -> BehaviourRun:
    """Asks a model all examples of a suite and judges its cases.

    Completions are greedy. Examples that read alike are asked once.

    Raises:
        UsageError: a prompt that the model cannot read.
    """
    began = time.monotonic()
    asked = [(test, example) for test in suite.tests for case in test.cases for example in case.examples]
    requests = list(dict.fromkeys(_request(*one) for one in asked if one[0].asking.by == "generate"))
    pairs = list(dict.fromkeys(pair for one in asked if one[0].asking.by == "likelihood" for pair in _pairs(*one)))
    total = len(requests) + len(pairs)
    generated = model.generate_until(requests, lambda done, _: progress(done, total)) if requests else []
    scored = model.loglikelihood(pairs, lambda done, _: progress(len(requests) + done, total)) if pairs else []
    said = dict(zip(requests, generated, strict=True))
    likelihoods = dict(zip(pairs, scored, strict=True))
    results = [_judged(test, case, said, likelihoods) for test in suite.tests for case in test.cases]
    identity = model.identity
    return BehaviourRun(name or identity.name, identity.weights, suite.name, tuple(results), time.monotonic() - began)


def _request(test: BehaviourTest, example: Example) -> Request:
    return Request(test.prompt(example), test.asking.max_tokens)


def _pairs(test: BehaviourTest, example: Example) -> list[tuple[Prompt, str]]:
    prompt = test.prompt(example)
    return [(prompt, text) for _, text in test.asking.continuations(example.options)]


def _judged(
    test: BehaviourTest,
    case: Case,
    said: Mapping[Request, Generation],
    likelihoods: Mapping[tuple[Prompt, str], Likelihood],
) -> CaseResult:
    answers = []
    for example in case.examples:
        if test.asking.by == "generate":
            found = said[_request(test, example)]
            parsed = parse(found.text, test.asking.answer, example.options, found.finished)
            answers.append(Answer(found.text, parsed, {}, example.label))
        else:
            options = [option for option, _ in test.asking.continuations(example.options)]
            values = [likelihoods[pair].logprob for pair in _pairs(test, example)]
            logprobs = dict(zip(options, values, strict=True))
            likeliest = max(options, key=logprobs.__getitem__)
            answers.append(Answer(likeliest, likeliest, logprobs, example.label))
    return CaseResult(test, case, tuple(answers), tuple(test.expect(answers)))


def behaviour_outcomes(model: LanguageModel, run: BehaviourRun, name: str) -> list[Outcome]:
    """One outcome per case, for ``trimpot compare``: score 1 where it passed, 0 where it failed.

    A case with an answer that cannot be read, and no failed example, is parse_failed with score 0; a filtered one is
    unscored with None. Task: ``behaviour/CAPABILITY/TYPE/TEST``. Slices: capability, type, test. Cluster: the template,
    as cases of one template are not independent. Prompt, output and expected hold all of the case's examples with
    ``---`` lines between them; prompt_ids are those of its first.
    """
    seconds = run.seconds / max(len(run.results), 1)
    return [_outcome(model, run, result, name, seconds) for result in run.results]


def _outcome(model: LanguageModel, run: BehaviourRun, result: CaseResult, name: str, seconds: float) -> Outcome:
    statuses = {"passed": "ok", "failed": "ok", "unparsed": "parse_failed", "filtered": "unscored"}
    scores = {"passed": 1.0, "failed": 0.0, "unparsed": 0.0, "filtered": None}
    test, prompts = result.test, [result.test.prompt(example) for example in result.case.examples]
    return Outcome(
        run=name,
        weights=run.weights,
        task=test.task,
        item=test.item(result.case),
        cluster=f"{test.task}/{result.case.template}",
        slices={"capability": test.capability, "type": test.type, "test": test.name},
        perturbation=UNPERTURBED,
        prompt_ids=model.prompt_ids(prompts[0]),
        prompt=BETWEEN.join(map(model.rendered, prompts)),
        expected=BETWEEN.join(example.label or "" for example in result.case.examples),
        output=BETWEEN.join(answer.output for answer in result.answers),
        score=scores[result.verdict],
        status=statuses[result.verdict],
        seconds=seconds,
        metric_group="behaviour",
    )


def verdicts_of(results: Sequence[CaseResult]) -> dict[Verdict, int]:
    """How many cases came out how; all four are there."""
    counts: dict[Verdict, int] = {"passed": 0, "failed": 0, "unparsed": 0, "filtered": 0}
    for result in results:
        counts[result.verdict] += 1
    return counts
