"""One trick at one budget of measured operations: how far it goes, what it trains and how it answers."""

from __future__ import annotations

import functools
import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from trimpot.core.rows import ChatRow, Message, PromptRow
from trimpot.core.samples import Sample
from trimpot.data.prepare import tokenise
from trimpot.data.template import ChatTemplate
from trimpot.models.policy import Policy
from trimpot.models.tiny import tiny
from trimpot.objectives.supervised.sft import SupervisedFineTuning
from trimpot.rollout.engine import decode, generate
from trimpot.rollout.sampling import SamplingSettings
from trimpot.rollout.verifiers import exact
from trimpot.studies import reversal
from trimpot.studies.arena_tricks import Trick
from trimpot.studies.flops import measured_flops
from trimpot.studies.study import Settings
from trimpot.training.loop import Plan, TrainState, train
from trimpot.training.rows import DatasetSource
from trimpot.training.settings import LoopSettings, OptimizerSettings

Answers = list[list[str | None]]
"""What was answered to every question, once or several times; None: the answer had no end."""


@dataclass(frozen=True)
class Costs:
    """Measured operations: of a training step, of one answer to every question, of each further one."""

    step: float
    answer: float
    further: float

    def spent(self, steps: int, answers: int) -> float:
        """What so many steps and answers to every question take."""
        return steps * self.step + self.answer + (answers - 1) * self.further


def allocate(budget: float, costs: Costs, search: float) -> tuple[int, int]:
    """Training steps and answers to every question that a budget of operations pays for; never more than it.

    answers = 1 + ⌊search · budget / further⌋, steps = ⌊(budget − what these answers take) / step⌋.

    Raises:
        ValueError: not one step is left.
    """
    answers = 1 + math.floor(search * budget / costs.further)
    steps = math.floor((budget - costs.spent(0, answers)) / costs.step)
    if steps < 1:
        raise ValueError(f"a budget of {budget:.3g} operations leaves no step after {answers} answers to each question")
    return steps, answers


def words_of(settings: Settings, seed: int) -> tuple[list[PromptRow], list[PromptRow]]:
    """The seed's words to learn from and words to be asked, none of them in both."""
    rows = reversal.words(settings["rows"] + settings["questions"], seed)
    return rows[: settings["rows"]], rows[settings["rows"] :]


def samples_of(trick: Trick, rows: Sequence[PromptRow], policy: Policy) -> tuple[Sample, ...]:
    """The rows with their answers as the trick shows them, tokenised."""
    shown = [trick.shown(row.prompt[-1].content, row.answer) for row in rows]
    chats = [ChatRow((Message("user", word), Message("assistant", answer))) for word, answer in shown]
    return tokenise(chats, ChatTemplate(policy.tokenizer), reversal.MAX_LENGTH).samples


def fine_tune(
    trick: Trick, policy: Policy, rows: Sequence[PromptRow], pace: LoopSettings, rate: float, seed: int
) -> None:
    """Trains all weights on the rows by the trick's means."""
    optimizer = OptimizerSettings(learning_rate=rate, **{"schedule": "constant", "warmup": 0.0, **trick.optimizer})
    source = DatasetSource(samples_of(trick, rows, policy), pace.batch, seed)
    state = TrainState.new(trick.trainee(policy, seed), optimizer)
    for _ in train(state, Plan(SupervisedFineTuning(), source, pace, optimizer)):
        pass


def answer(trick: Trick, policy: Policy, questions: Sequence[PromptRow], answers: int, seed: int) -> Answers:
    """So many answers to every question: one is greedy, several are drawn.

    A completion stops at the length of the longest right one, end included: what is longer cannot be right.
    """
    template = ChatTemplate(policy.tokenizer)
    shown = [trick.shown(row.prompt[-1].content, row.answer)[0] for row in questions]
    prompts = [template.prompt_ids((Message("user", word),)) for word in shown]
    longest = max(sample.targets for sample in samples_of(trick, questions, policy))
    sampling = SamplingSettings(temperature=0.0 if answers == 1 else 1.0, max_tokens=longest)
    groups = generate(policy, prompts, answers, sampling, seed)
    return [[trick.read(decode(policy, one)) if one.finished else None for one in group] for group in groups]


def score(answers: Answers, questions: Sequence[PromptRow]) -> dict[str, float]:
    """Shares of questions: ``accuracy``, some answer is right; ``majority``, the most frequent one that ended is.

    ``letters``: share of letters in their place, in each question's best answer: it moves where whole answers are still
    all wrong. Edge cases: of equally frequent answers the one that came first counts; one without an end has no letter
    in its place.
    """
    best = most = letters = 0.0
    for texts, row in zip(answers, questions, strict=True):
        votes = Counter(text for text in texts if text is not None)
        right = {text: exact(text, row).value for text in votes}
        letters += max((in_place(text, row.answer) for text in votes), default=0.0)
        best += max(right.values(), default=0.0)
        most += right[votes.most_common(1)[0][0]] if votes else 0.0
    count = len(questions)
    return {"accuracy": best / count, "majority": most / count, "letters": letters / count}


def in_place(text: str, answer: str) -> float:
    """Share of the answer's letters that stand in their place in the text. Example: "dcab" for "dcba": 1/2."""
    return sum(one == other for one, other in zip(text.strip(), answer, strict=False)) / len(answer)


def costs_of(trick: Trick, settings: Settings, seed: int) -> Costs:
    """The operations of a step and of answers, measured on an untrained model: they depend on shapes alone."""
    policy, (rows, questions) = tiny("0.1m", seed=seed), words_of(settings, seed)
    once, twice = (measured_flops(functools.partial(answer, trick, policy, questions, count, seed)) for count in (1, 2))
    one_step = LoopSettings(steps=1, batch=settings["batch"])
    step = measured_flops(functools.partial(fine_tune, trick, policy, rows, one_step, 1e-3, seed))
    return Costs(step, once, twice - once)


def crossing(leads: Mapping[float, float]) -> float | None:
    """The budget at which a lead (budget -> lead) changes its sign; the last such, if there are several.

    Between two budgets the lead is taken as straight over the logarithm of the budget. None: it never changes.
    Example: leads of −1 at 1 and 1 at 4 cross at 2.
    """
    found = None
    for (low, before), (high, after) in itertools.pairwise(sorted(leads.items())):
        if before * after < 0:
            found = low * (high / low) ** (before / (before - after))
    return found
