"""Supervised fine-tuning in one file: show the model answers, raise the probability of their tokens.

    L = −Σₙ wₙ log π(yₙ | y₍<ₙ₎) / Σₙ wₙ

n runs over the supervised tokens of the batch: an answer and the token that ends it, never the question. yₙ is the
token, y₍<ₙ₎ all tokens before it in its conversation, π the model, wₙ the weight of the token's row.

Run:    python examples/sft_in_one_file.py
        python examples/sft_in_one_file.py --model smollm2-135m --learning-rate 5e-5
Shapes: N supervised tokens of the batch.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import torch
from torch import Tensor

from trimpot.core.rows import ChatRow
from trimpot.core.seeds import stream
from trimpot.core.tensors import pack_one
from trimpot.data.embedded import embedded_rows
from trimpot.data.template import ChatTemplate
from trimpot.models import load

ROWS, BATCH, MAX_LENGTH = 256, 8, 512


def sft_loss(logprob_N: Tensor, weight_N: Tensor) -> Tensor:
    """The equation: every token counts alike, so a long answer counts more than a short one."""
    return -(weight_N * logprob_N).sum() / weight_N.sum()


def main(arguments: Sequence[str] | None = None) -> list[float]:
    """Trains and returns the loss of every step."""
    options = parse(arguments)
    policy = load(options.model, seed=options.seed)

    # Rows become token ids and a mask. The mask is the method: it says which tokens the model is to write itself.
    template = ChatTemplate(policy.tokenizer)
    rows = embedded_rows("reasoning-easy", "train", ROWS, options.seed, kind="chat")
    samples = [template.chat(row, MAX_LENGTH).sample for row in rows if isinstance(row, ChatRow)]

    optimizer = torch.optim.AdamW(policy.model.parameters(), lr=options.learning_rate, weight_decay=0.0)
    losses = []
    for step in range(1, options.steps + 1):
        # Conversations of all lengths lie end to end in one batch; none sees another, and nothing is padded.
        batch = pack_one(stream(options.seed, "batch", step).sample(samples, BATCH), str(policy.device))

        # log π(yₙ | y₍<ₙ₎) at the supervised tokens only: elsewhere not even the logits are computed.
        scores = policy.scores(batch)
        loss = sft_loss(scores.logprob_N, batch.streams["weight_N"])

        loss.backward()
        torch.nn.utils.clip_grad_norm_(policy.model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

        losses.append(loss.item())
        accuracy = scores.correct_N.float().mean().item()
        print(f"step {step:3d}  loss {loss.item():.3f} nats/token  token accuracy {accuracy:.2f}")
    print(f"done: the loss went from {losses[0]:.3f} to {losses[-1]:.3f} nats per token")
    return losses


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Supervised fine-tuning in one file.")
    parser.add_argument("--model", default="tiny-0.5m", help="tiny-0.1m to tiny-5m, smollm2-135m, a folder, a hub id")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--learning-rate", type=float, default=3e-3, help="5e-5 suits smollm2-135m")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
