"""GRPO in one file: sample a group of answers to each prompt, and raise those that did better than their group.

    Aᵢ = (rᵢ − mean(r)) / (std(r) + 10⁻⁴)
    L  = −1/N Σₙ min( ρₙ Aₙ, clip(ρₙ, 1 − ε, 1 + ε) Aₙ ),    ρₙ = π(yₙ) / π_sampler(yₙ)

r are the rewards of the answers to one prompt, Aᵢ the advantage of answer i, and Aₙ that of the answer token n belongs
to; ρₙ is how much more likely the model makes token n than it did when it sampled it; ε stops a single batch from
moving it far. There is no value model: the group's mean is the baseline. A group whose rewards are all equal teaches
nothing (A = 0).

The reward here is the share of digits in the answer: trivial, so that even a model of random weights learns in seconds.

Source: arXiv 2402.03300, equation 3 without its KL term; the mean over all tokens is arXiv 2503.14476's.
Run:    python examples/grpo_in_one_file.py
        python examples/grpo_in_one_file.py --model smollm2-135m --learning-rate 3e-6
Shapes: N tokens of all answers, S answers, G answers per prompt.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import torch
from torch import Tensor

from trimpot.core.rows import PromptRow
from trimpot.core.samples import Branch, Sample
from trimpot.core.seeds import seed_for, stream
from trimpot.core.tensors import pack_one
from trimpot.data.embedded import embedded_rows
from trimpot.data.template import ChatTemplate
from trimpot.models import load
from trimpot.rollout.engine import Completion, generate
from trimpot.rollout.sampling import SamplingSettings

ROWS, PROMPTS, GROUP, UPDATES = 64, 4, 8, 2
SAMPLING = SamplingSettings(temperature=1.0, max_tokens=16)


def share_of_digits(text: str) -> float:
    """The reward, in [0, 1]. Yours goes here: any function of the text (and of the row's answer)."""
    return sum(character in "0123456789" for character in text) / max(1, len(text))


def group_advantages(reward_S: Tensor) -> Tensor:
    """The first equation, group by group. [S]"""
    reward_PG = reward_S.view(-1, GROUP)
    mean_P1, std_P1 = reward_PG.mean(1, keepdim=True), reward_PG.std(1, keepdim=True)
    return ((reward_PG - mean_P1) / (std_P1 + 1e-4)).flatten()


def grpo_loss(logprob_N: Tensor, sampler_logprob_N: Tensor, advantage_N: Tensor, clip: float) -> Tensor:
    """The second equation."""
    ratio_N = torch.exp(logprob_N - sampler_logprob_N)
    clipped_N = ratio_N.clamp(1 - clip, 1 + clip)
    return -torch.minimum(ratio_N * advantage_N, clipped_N * advantage_N).mean()


def as_sample(row: str, prompt: tuple[int, ...], group: Sequence[Completion]) -> Sample:
    """The prompt once, and every answer as a branch of it, with the log-probs its tokens were sampled with."""
    return Sample(
        row,
        prompt,
        tuple(
            Branch(tuple(answer.ids), (True,) * len(answer.ids), {"sampler_logprob_N": answer.logprobs})
            for answer in group
        ),
    )


def main(arguments: Sequence[str] | None = None) -> list[float]:
    """Trains and returns the mean reward of every step."""
    options = parse(arguments)
    policy = load(options.model, seed=options.seed)
    template = ChatTemplate(policy.tokenizer)
    rows = [row for row in embedded_rows("reasoning-easy", "train", ROWS, options.seed) if isinstance(row, PromptRow)]

    optimizer = torch.optim.AdamW(policy.model.parameters(), lr=options.learning_rate, weight_decay=0.0)
    history = []
    for step in range(1, options.steps + 1):
        # Sample: the model as it is now answers every prompt of the step GROUP times.
        drawn = stream(options.seed, "prompts", step).sample(rows, PROMPTS)
        prompts = [template.prompt(row) for row in drawn]
        groups = generate(policy, prompts, GROUP, SAMPLING, seed_for(options.seed, "rollout", step))

        # Score, and compare within the group.
        texts = [policy.tokenizer.decode(one.ids, skip_special_tokens=True) for group in groups for one in group]
        reward_S = torch.tensor([share_of_digits(text) for text in texts], device=policy.device)
        advantage_S = group_advantages(reward_S)

        # Learn: the first update has ρ = 1 everywhere; from the second on, the clip matters.
        batch = pack_one(
            [as_sample(row.id, prompt, group) for row, prompt, group in zip(drawn, prompts, groups, strict=True)],
            str(policy.device),
        )
        sampler_logprob_N, advantage_N = batch.streams["sampler_logprob_N"], advantage_S[batch.sequence_N]
        for _ in range(UPDATES):
            scores = policy.scores(batch, SAMPLING.temperature)
            loss = grpo_loss(scores.logprob_N, sampler_logprob_N, advantage_N, options.clip)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(policy.model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()

        history.append(reward_S.mean().item())
        entropy = scores.entropy_N.mean().item()
        print(f"step {step:3d}  reward {history[-1]:.3f}  entropy {entropy:.2f} nats  e.g. {texts[0]!r}")
    print(f"done: the reward went from {history[0]:.3f} to {history[-1]:.3f}")
    return history


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Group relative policy optimisation in one file.")
    parser.add_argument("--model", default="tiny-0.5m", help="tiny-0.1m to tiny-5m, smollm2-135m, a folder, a hub id")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--clip", type=float, default=0.2)
    parser.add_argument("--learning-rate", type=float, default=3e-3, help="3e-6 suits smollm2-135m")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
