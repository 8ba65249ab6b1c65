"""Direct preference optimisation in one file: make the chosen answer more likely than the rejected, near a reference.

    L = mean over pairs of −log σ( β [log π(y⁺|x)/π_ref(y⁺|x) − log π(y⁻|x)/π_ref(y⁻|x)] )

x is the prompt, y⁺ the chosen and y⁻ the rejected answer; log π(y|x) is summed over the answer's tokens; π is the
model, π_ref the same model before the first step; β says how dear it is to leave the reference (a larger β holds the
model closer to it); σ(x) = 1 / (1 + exp(−x)). The bracket times β is the margin of the implicit rewards. Before the
first step π = π_ref, so the margin is 0 and the loss ln 2 = 0.693: if yours starts elsewhere, look for the bug.

Source: arXiv 2305.18290, equation 7.
Run:    python examples/dpo_in_one_file.py
        python examples/dpo_in_one_file.py --model smollm2-135m --learning-rate 2e-6
Shapes: N supervised tokens of the batch, S answers, P = S / 2 pairs.
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
from trimpot.models import load

ROWS, BATCH, MAX_LENGTH = 128, 8, 512


def dpo_loss(logratio_S: Tensor, beta: float) -> tuple[Tensor, Tensor]:
    """The equation on log π/π_ref of every answer, chosen and rejected in turn; also gives the margins [P]."""
    chosen_P, rejected_P = logratio_S[0::2], logratio_S[1::2]
    margin_P = beta * (chosen_P - rejected_P)
    return -logsigmoid(margin_P).mean(), margin_P


def sum_by_answer(values_N: Tensor, batch: Batch) -> Tensor:
    """[N] -> [S]: the sum over each answer's tokens."""
    return values_N.new_zeros(batch.sequences).index_add(0, batch.sequence_N, values_N)


def make_pairs(seed: int) -> list[PreferencePair]:
    """Chosen: an answer of the kind asked for. Rejected: the answer to a question of another kind."""
    rows = [row for row in embedded_rows("reasoning-easy", "pairs", ROWS, seed) if isinstance(row, PromptRow)]
    numbers = [row.answer for row in rows if row.answer.isdigit()]
    words = [row.answer for row in rows if row.answer.isalpha()]
    pairs = []
    for number, row in enumerate(rows):
        answer = stream(seed, "rejected", number).choice(numbers if row.answer in words else words)
        pairs.append(PreferencePair(row.prompt, (Message("assistant", row.answer),), (Message("assistant", answer),)))
    return pairs


def main(arguments: Sequence[str] | None = None) -> list[tuple[float, float]]:
    """Trains and returns loss and mean margin of every step."""
    options = parse(arguments)
    policy = load(options.model, seed=options.seed)
    device = str(policy.device)

    # A pair is one prompt with two branches: the prompt runs through the model once, and both answers continue it.
    template = ChatTemplate(policy.tokenizer)
    samples = [template.pair(pair, MAX_LENGTH).sample for pair in make_pairs(options.seed)]

    # The reference never changes, so its log-probs are computed now and the model is then free to leave it.
    with torch.no_grad():
        reference = {sample.row_id: policy.scores(pack_one([sample], device)).logprob_N for sample in samples}

    optimizer = torch.optim.AdamW(policy.model.parameters(), lr=options.learning_rate, weight_decay=0.0)
    history = []
    for step in range(1, options.steps + 1):
        chosen = stream(options.seed, "batch", step).sample(samples, BATCH)
        batch = pack_one(chosen, device)

        # log π/π_ref token by token, then summed: two long sums of nearly equal numbers would cancel badly.
        logprob_N = policy.scores(batch).logprob_N
        reference_N = torch.cat([reference[sample.row_id] for sample in chosen])
        loss, margin_P = dpo_loss(sum_by_answer(logprob_N - reference_N, batch), options.beta)

        loss.backward()
        torch.nn.utils.clip_grad_norm_(policy.model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

        # The margin can rise while both answers become less likely: only the chosen one's own log-prob shows it.
        chosen_logprob = sum_by_answer(logprob_N.detach(), batch)[0::2].mean().item()
        history.append((loss.item(), margin_P.mean().item()))
        right = (margin_P > 0).float().mean().item()
        print(
            f"step {step:3d}  loss {loss.item():.3f}  margin {margin_P.mean().item():+.3f}  accuracy {right:.2f}"
            f"  log-prob of chosen {chosen_logprob:.1f}"
        )
    print(f"done: the loss went from {history[0][0]:.3f} (ln 2 = 0.693) to {history[-1][0]:.3f}")
    return history


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Direct preference optimisation in one file.")
    parser.add_argument("--model", default="tiny-0.5m", help="tiny-0.1m to tiny-5m, smollm2-135m, a folder, a hub id")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--beta", type=float, default=0.1)
    parser.add_argument("--learning-rate", type=float, default=1e-3, help="2e-6 suits smollm2-135m")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
