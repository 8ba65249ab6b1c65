"""A reward model in one file: give every answer a number, the preferred one of a pair the larger.

    L = mean over pairs of −log σ(r⁺ − r⁻),    r = wᵀ h

r⁺ and r⁻ are the rewards of the chosen and the rejected answer; h is the model's hidden state at an answer's last
token and w the reward head, a vector that starts at 0; σ(x) = 1 / (1 + exp(−x)) is then the probability that the
chosen answer is preferred (Bradley and Terry's model). All rewards start at 0, so the loss starts at ln 2 = 0.693.
Only differences mean anything: a constant added to all rewards changes nothing.

Source: arXiv 2203.02155 (InstructGPT), section 3.5 and equation 1.
Run:    python examples/reward_in_one_file.py
        python examples/reward_in_one_file.py --model smollm2-135m --learning-rate 2e-5
Shapes: T tokens of the batch, H hidden size, S answers, P = S / 2 pairs.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from trimpot.core.rows import Message, PreferencePair, PromptRow
from trimpot.core.seeds import stream
from trimpot.core.tensors import Batch, pack_one
from trimpot.data.embedded import embedded_rows
from trimpot.data.template import ChatTemplate
from trimpot.models import Policy, load
from trimpot.models.attention import plan_for
from trimpot.models.policy import sliding_window

TRAIN, HELD_OUT, BATCH, MAX_LENGTH, EVALUATE_EVERY = 256, 64, 16, 512, 5


def bradley_terry_loss(reward_S: Tensor) -> Tensor:
    """The equation; chosen and rejected answers take turns."""
    chosen_P, rejected_P = reward_S[0::2], reward_S[1::2]
    return -logsigmoid(chosen_P - rejected_P).mean()


def rewards(policy: Policy, head_H: Tensor, batch: Batch) -> Tensor:
    """r = wᵀ h at the last token of every answer: the one place that has seen all of it. [S]"""
    plan = plan_for(batch, sliding_window(policy.model.config))
    hidden_TH = policy.hidden(batch.ids_T, batch.positions_T, plan)
    return hidden_TH[batch.last_token_S].float() @ head_H


def accuracy(reward_S: Tensor) -> float:
    """The share of pairs whose chosen answer gets the larger reward; a tie is no success."""
    return (reward_S[0::2] > reward_S[1::2]).float().mean().item()


def make_pairs(split: str, count: int, seed: int) -> list[PreferencePair]:
    """Chosen: an answer of the kind asked for. Rejected: the answer to a question of another kind."""
    rows = [row for row in embedded_rows("reasoning-easy", split, count, seed) if isinstance(row, PromptRow)]
    numbers = [row.answer for row in rows if row.answer.isdigit()]
    words = [row.answer for row in rows if row.answer.isalpha()]
    pairs = []
    for number, row in enumerate(rows):
        answer = stream(seed, "rejected", number).choice(numbers if row.answer in words else words)
        pairs.append(PreferencePair(row.prompt, (Message("assistant", row.answer),), (Message("assistant", answer),)))
    return pairs


def main(arguments: Sequence[str] | None = None) -> list[float]:
    """Trains and returns the accuracies on held-out pairs: after the first step, every fifth and the last."""
    options = parse(arguments)
    policy = load(options.model, seed=options.seed)
    device = str(policy.device)

    # A pair is one prompt with two branches: the prompt runs through the model once, and both answers continue it.
    template = ChatTemplate(policy.tokenizer)
    train = [template.pair(pair, MAX_LENGTH).sample for pair in make_pairs("train", TRAIN, options.seed)]
    held_out_pairs = make_pairs("evaluation", HELD_OUT, options.seed)
    held_out = pack_one([template.pair(pair, MAX_LENGTH).sample for pair in held_out_pairs], device)

    # What a model may learn instead of the question: which kind of answer is right more often, and its length.
    numbers = sum(pair.chosen[0].content[0].isdigit() for pair in held_out_pairs) / HELD_OUT
    shorter = accuracy(-torch.bincount(held_out.sequence_N).float())
    print(f"to beat on held-out pairs: always the number {numbers:.2f}, always the shorter answer {shorter:.2f}")

    head_H = torch.zeros(policy.model.config.hidden_size, device=device, requires_grad=True)
    parameters = [*policy.model.base_model.parameters(), head_H]
    optimizer = torch.optim.AdamW(parameters, lr=options.learning_rate, weight_decay=0.0)
    history = []
    for step in range(1, options.steps + 1):
        batch = pack_one(stream(options.seed, "batch", step).sample(train, BATCH), device)

        reward_S = rewards(policy, head_H, batch)
        loss = bradley_terry_loss(reward_S)

        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()

        if step % EVALUATE_EVERY == 0 or step in (1, options.steps):
            with torch.no_grad():
                history.append(accuracy(rewards(policy, head_H, held_out)))
        print(
            f"step {step:3d}  loss {loss.item():.3f}  accuracy on the batch {accuracy(reward_S):.2f}"
            f"  on held-out pairs {history[-1]:.2f}"
        )
    print(f"done: the accuracy on held-out pairs went from {history[0]:.2f} to {history[-1]:.2f}")
    return history


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="A reward model in one file.")
    parser.add_argument("--model", default="tiny-0.5m", help="tiny-0.1m to tiny-5m, smollm2-135m, a folder, a hub id")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--learning-rate", type=float, default=1e-3, help="2e-5 suits smollm2-135m")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
