"""A task a tiny model learns in seconds: write four letters backwards. Rows, a base model, its own samples judged."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from trimpot.core.rows import ChatRow, Message, PreferencePair, PromptRow
from trimpot.core.samples import Sample
from trimpot.core.seeds import seed_for, stream
from trimpot.data.pairs import pairs_from_samples
from trimpot.data.prepare import tokenise
from trimpot.data.template import ChatTemplate
from trimpot.models.policy import Policy
from trimpot.models.tiny import tiny
from trimpot.objectives.supervised.sft import SupervisedFineTuning
from trimpot.rollout.engine import Completion, decode, generate
from trimpot.rollout.sampling import SamplingSettings
from trimpot.rollout.verifiers import exact
from trimpot.training.loop import Plan, TrainState, train
from trimpot.training.rows import DatasetSource
from trimpot.training.settings import LoopSettings, OptimizerSettings

LETTERS, LENGTH = "abcdefgh", 4
SAMPLING = SamplingSettings(temperature=1.0, max_tokens=8)
MAX_LENGTH, BATCH, CHECK_EVERY = 64, 32, 20


def words(count: int, seed: int) -> list[PromptRow]:
    """The first ``count`` of the 8⁴ = 4096 prompts in the seed's random order; the answer is the prompt reversed.

    A larger count begins with the rows of a smaller one, so that parts of it have no row in common.

    Raises:
        ValueError: more are asked for than there are.
    """
    numbers = list(range(len(LETTERS) ** LENGTH))
    if count > len(numbers):
        raise ValueError(f"{count} words are asked for, but there are {len(numbers)}")
    stream(seed, "words").shuffle(numbers)
    rows = []
    for number in numbers[:count]:
        digits = [number // len(LETTERS) ** place % len(LETTERS) for place in range(LENGTH)]
        word = "".join(LETTERS[digit] for digit in digits)
        rows.append(PromptRow((Message("user", word),), word[::-1]))
    return rows


def base_policy(rows: Sequence[PromptRow], probe: Sequence[PromptRow], stop_at: float, steps: int, seed: int) -> Policy:
    """A tiny model fine-tuned on the rows' answers until ``stop_at`` of its samples on ``probe`` are right.

    It stops there, or after ``steps``: a model that is always right, or never, has no pairs to learn from.
    """
    policy = tiny("0.1m", seed=seed)
    template = ChatTemplate(policy.tokenizer)
    chats = [ChatRow((*row.prompt, Message("assistant", row.answer))) for row in rows]
    source = DatasetSource(tokenise(chats, template, MAX_LENGTH).samples, BATCH, seed_for(seed, "sft"))
    optimizer = OptimizerSettings(learning_rate=1e-3, schedule="constant", warmup=0.05)
    plan = Plan(SupervisedFineTuning(), source, LoopSettings(steps=steps, batch=BATCH), optimizer)
    for step in train(TrainState.new(policy, optimizer), plan):
        if step.number % CHECK_EVERY == 0 and accuracy(policy, probe, seed_for(seed, "probe")) >= stop_at:
            break
    return policy


def sampled(
    policy: Policy, rows: Sequence[PromptRow], samples: int, seed: int
) -> tuple[list[list[Completion]], list[list[float]]]:
    """Completions of every row and the verifier's scores; a completion without an end is wrong."""
    template = ChatTemplate(policy.tokenizer)
    groups = generate(policy, [template.prompt(row) for row in rows], samples, SAMPLING, seed)
    scores = [
        [exact(decode(policy, one), row).value if one.finished else 0.0 for one in group]
        for row, group in zip(rows, groups, strict=True)
    ]
    return groups, scores


def accuracy(policy: Policy, rows: Sequence[PromptRow], seed: int) -> float:
    """The share of right answers, one sample of each row."""
    _, scores = sampled(policy, rows, 1, seed)
    return sum(score for group in scores for score in group) / len(rows)


def constructed_pairs(policy: Policy, rows: Sequence[PromptRow], samples: int, seed: int) -> list[PreferencePair]:
    """A right over a wrong completion of the policy's own, for every row that got both."""
    groups, scores = sampled(policy, rows, samples, seed)
    return pairs_from_samples(rows, [[decode(policy, one) for one in group] for group in groups], scores)


def with_wrong_labels(pairs: Sequence[PreferencePair], share: float, seed: int) -> list[PreferencePair]:
    """The pairs with chosen and rejected exchanged in a random ``share`` of them; which, the seed and place decide."""
    draw = stream(seed, "wrong labels")
    return [
        PreferencePair(pair.prompt, pair.rejected, pair.chosen, pair.margin, pair.slices, pair.origin)
        if draw.random() < share
        else pair
        for pair in pairs
    ]


def pair_samples(pairs: Sequence[PreferencePair], policy: Policy) -> tuple[Sample, ...]:
    """The pairs tokenised."""
    return tokenise(pairs, ChatTemplate(policy.tokenizer), MAX_LENGTH).samples


def save_pairs(pairs: Sequence[PreferencePair], file: Path) -> None:
    """Writes prompt, chosen and rejected of each pair."""
    rows = [[turns[-1].content for turns in (pair.prompt, pair.chosen, pair.rejected)] for pair in pairs]
    file.write_text(json.dumps(rows))


def load_pairs(file: Path) -> list[PreferencePair]:
    """Reads what ``save_pairs`` wrote."""
    return [
        PreferencePair((Message("user", prompt),), (Message("assistant", chosen),), (Message("assistant", rejected),))
        for prompt, chosen, rejected in json.loads(file.read_text())
    ]
