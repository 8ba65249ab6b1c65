"""Checks that a model says the same however it is asked: in batches of any size, by the sampler or by the trainer.

Shape suffixes: N targets.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from trimpot.core.rows import ChatRow, Message, Row, TextRow
from trimpot.core.samples import Branch, Sample
from trimpot.core.seeds import seed_for
from trimpot.core.tensors import pack_one
from trimpot.evaluation import likelihood
from trimpot.models.reward import RewardModel
from trimpot.preflight.check import Built, Check, Deadline, Found, NotApplicableError
from trimpot.preflight.parts import flat, hidden_states, model_of, plan_of, policy_of, readable, refuse_low_precision
from trimpot.rollout import engine
from trimpot.rollout.sampling import SamplingSettings

PER_TOKEN = 1e-5
SAMPLER = 1e-4
PROMPTS, TOKENS = 2, 8
"""Prompts that are completed, and tokens of a completion."""


def evaluation_batches(built: Built, deadline: Deadline) -> Found:
    """What an evaluation reads of each of three rows, all in one batch and one by one.

    Equation: max over rows of |a − b| / n ≤ 10⁻⁵, with a and b the log-likelihood of the row's last half in nats and n
        its tokens; of a reward model the last hidden state, relative to its size.
    Edge cases: weights below float32, where rounding is larger: not applicable.
    Source: ours.
    """
    refuse_low_precision(built)
    model, samples = model_of(built), readable(built)
    if isinstance(model, RewardModel):
        return _rewards_in_batches(model, samples)
    lead = len(built.template.lead)
    pairs = []
    for sample in samples:
        ids = flat(sample)[0][lead:]
        half = max(1, len(ids) // 2)
        pairs.append((ids[:half], ids[half:]))
    together, apart = (
        likelihood.log_likelihoods(model, pairs, likelihood.LikelihoodSettings(token_budget=budget))
        for budget in (sum(len(one) + len(other) for one, other in pairs), 1)
    )
    differences = [abs(a.logprob - b.logprob) / a.tokens for a, b in zip(together, apart, strict=True)]
    text = f"largest difference {max(differences):.1e} nats a token between one batch and {len(pairs)}"
    return Found(max(differences) <= PER_TOKEN, max(differences), text)


@torch.no_grad()
def _rewards_in_batches(model: RewardModel, samples: tuple[Sample, ...]) -> Found:
    def last_states(rows: tuple[Sample, ...]) -> torch.Tensor:
        batch = pack_one(rows, str(model.device))
        return hidden_states(model, batch)[batch.last_token_S]

    together = last_states(samples)
    apart = torch.cat([last_states((sample,)) for sample in samples])
    difference = float((together - apart).abs().max() / together.abs().max())
    text = f"largest relative difference {difference:.1e} between one batch and {len(samples)}"
    return Found(difference <= PER_TOKEN, difference, text)


def rollout_trainer(built: Built, deadline: Deadline) -> Found:
    """The log-probs that the sampler gives its own tokens, and those that the trainer gives the same tokens.

    Equation: max over tokens of |log p_sampler − log p_trainer| < 10⁻⁴, in float32, on 2 prompts of 8 tokens each.
    Units: nats. Edge cases: weights below float32: not applicable.
    Source: ours.
    """
    refuse_low_precision(built)
    policy = policy_of(built)
    prompts = _prompts(built)
    own = built.sampling or SamplingSettings()
    temperature = own.temperature or 1.0
    settings = replace(own, temperature=temperature, max_tokens=TOKENS, top_k=0, top_p=1.0, min_p=0.0)
    groups = engine.generate(policy, prompts, 1, settings, seed_for(built.seed, "preflight", "rollout"))
    samples, sampled = [], []
    for number, (prompt, (completion,)) in enumerate(zip(prompts, groups, strict=True)):
        branch = Branch(tuple(completion.ids), (True,) * len(completion.ids))
        samples.append(Sample(f"rollout {number}", prompt, (branch,)))
        sampled += completion.logprobs
    with torch.no_grad():
        logprob_N = policy.scores(pack_one(samples, str(policy.device)), _trained_at(built, temperature)).logprob_N
    difference = float((logprob_N.double().cpu() - torch.tensor(sampled, dtype=torch.float64)).abs().max())
    text = f"largest difference {difference:.1e} nats over {len(sampled)} tokens"
    return Found(difference < SAMPLER, difference, text)


def _trained_at(built: Built, temperature: float) -> float:
    """The temperature that the trainer scores completions at: where it trains on its own, that of its plan."""
    return plan_of(built).temperature if built.sampling is not None else temperature


def _prompts(built: Built) -> list[tuple[int, ...]]:
    """Short prompts of the stage's rows, as a generation begins with them."""
    prompts = {built.template.prompt_ids(turns) for turns in map(_turns, built.rows[:64]) if turns}
    if not prompts:
        raise NotApplicableError("no row has a prompt to complete")
    return sorted(prompts, key=lambda ids: (len(ids), ids))[:PROMPTS]


def _turns(row: Row) -> tuple[Message, ...]:
    if isinstance(row, TextRow):
        return ()
    if isinstance(row, ChatRow):
        answers = [place for place, one in enumerate(row.messages) if one.role == "assistant"]
        return row.messages[: answers[0]] if answers else row.messages
    return row.prompt


CHECKS = (
    Check(
        "evaluation_batches",
        "Does the batch size change what an evaluation reads?",
        "at most 1e-5 nats a token",
        30,
        "Look for padding that is attended to, or positions that count it.",
        evaluation_batches,
        of_model=True,
    ),
    Check(
        "rollout_trainer",
        "Does the trainer score a completion as the sampler did?",
        "below 1e-4 nats (float32)",
        45,
        "Hold temperature, truncation, template and weights of sampler and trainer to each other.",
        rollout_trainer,
    ),
)
