"""Each example does what it says, in seconds, and its equation is the package's."""

import math
import re
from pathlib import Path

import pytest
import torch

from trimpot.core.tensors import Streams, pack_one
from trimpot.data.template import ChatTemplate
from trimpot.models.tiny import tiny
from trimpot.objectives import OBJECTIVES
from trimpot.objectives.policy_gradient.advantages import group_advantages

FILES = sorted((Path(__file__).parents[2] / "examples").glob("*.py"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_short_and_without_a_class(file):
    lines = file.read_text().splitlines()
    assert len(lines) < 250
    assert not [line for line in lines if line.lstrip().startswith("class ")]


def test_sft_loss_falls(example, capsys):
    losses = example("sft_in_one_file").main(["--steps", "15"])
    assert losses[0] == pytest.approx(math.log(259), abs=0.1)  # random weights know nothing of 259 tokens
    assert sum(losses[-3:]) / 3 < 0.75 * losses[0]
    lines = capsys.readouterr().out.splitlines()
    assert [re.match(r"step +(\d+) ", line)[1] for line in lines[:-1]] == [str(step) for step in range(1, 16)]
    assert lines[-1].startswith("done: ")


def test_dpo_starts_at_ln_2_and_its_margin_rises(example):
    history = example("dpo_in_one_file").main(["--steps", "20"])
    loss, margin = history[0]
    assert loss == pytest.approx(math.log(2), abs=1e-4)
    assert margin == pytest.approx(0, abs=1e-4)
    assert sum(margin for _, margin in history[-5:]) / 5 > 0.2


def test_grpo_reward_rises(example):
    rewards = example("grpo_in_one_file").main(["--steps", "12"])
    assert rewards[0] < 0.15
    assert rewards[-1] > 0.5


def test_reward_model_ranks_held_out_pairs(example, capsys):
    accuracies = example("reward_in_one_file").main(["--steps", "25"])
    (to_beat, *_) = capsys.readouterr().out.splitlines()
    assert accuracies[-1] > max(float(value) for value in re.findall(r"\d\.\d\d", to_beat)) + 0.1
    assert accuracies[-1] > accuracies[0]


@pytest.mark.parametrize("name", ["sft", "grpo"])
def test_the_seed_decides(example, name):
    def run(seed):
        return example(f"{name}_in_one_file").main(["--model", "tiny-0.1m", "--steps", "2", "--seed", str(seed)])

    assert run(1) == run(1)
    assert run(1) != run(2)


# The equations, on a real batch


@pytest.fixture(scope="module")
def policy():
    return tiny("0.1m", seed=3)


@pytest.fixture(scope="module")
def reference():
    return tiny("0.1m", seed=4)


@pytest.fixture(scope="module")
def pair_batch(example, policy):
    template = ChatTemplate(policy.tokenizer)
    return pack_one([template.pair(pair, 512).sample for pair in example("dpo_in_one_file").make_pairs(0)[:6]])


@torch.no_grad()
def test_sft_equation(example, policy):
    rows = example("sft_in_one_file").embedded_rows("reasoning-easy", "train", 6, 0, kind="chat")
    batch = pack_one([ChatTemplate(policy.tokenizer).chat(row, 512).sample for row in rows])
    logprob_N = policy.scores(batch).logprob_N
    weight_N = 1.0 + batch.sequence_N.float()
    streams = Streams(batch.sequence_N, batch.sequences, logprob_N=logprob_N, weight_N=weight_N)
    loss = example("sft_in_one_file").sft_loss(logprob_N, weight_N)
    assert loss.item() == pytest.approx(OBJECTIVES["sft"]()(streams).loss().item(), rel=1e-6)


@torch.no_grad()
def test_dpo_equation(example, policy, reference, pair_batch):
    dpo = example("dpo_in_one_file")
    logprob_N, reference_N = policy.scores(pair_batch).logprob_N, reference.scores(pair_batch).logprob_N
    streams = Streams(pair_batch.sequence_N, pair_batch.sequences, logprob_N=logprob_N, reference_logprob_N=reference_N)
    out = OBJECTIVES["dpo"](beta=0.3)(streams)
    loss, margin_P = dpo.dpo_loss(dpo.sum_by_answer(logprob_N - reference_N, pair_batch), 0.3)
    assert loss.item() == pytest.approx(out.loss().item(), rel=1e-6)
    assert margin_P.mean().item() == pytest.approx(out.stats["rewards/margins"].value, rel=1e-5)


@torch.no_grad()
def test_reward_equation(example, policy, pair_batch):
    module = example("reward_in_one_file")
    head_H = torch.linspace(-1, 1, policy.model.config.hidden_size)
    reward_S = module.rewards(policy, head_H, pair_batch)
    out = OBJECTIVES["bradley_terry"]()(Streams(pair_batch.sequence_N, pair_batch.sequences, reward_S=reward_S))
    assert module.bradley_terry_loss(reward_S).item() == pytest.approx(out.loss().item(), rel=1e-6)
    assert module.accuracy(reward_S) == pytest.approx(out.stats["accuracy"].value)


@torch.no_grad()
def test_grpo_equations(example, policy, reference, pair_batch):
    grpo = example("grpo_in_one_file")
    reward_S = torch.tensor([0.0, 1.0, 0.25, 0.0, 0.5, 0.0, 0.0, 1.0, *[1.0] * 8])
    assert torch.allclose(grpo.group_advantages(reward_S), group_advantages(reward_S, [8, 8]), atol=1e-5)
    logprob_N = policy.scores(pair_batch).logprob_N
    sampler_N = logprob_N + 5 * (reference.scores(pair_batch).logprob_N - logprob_N)
    advantage_N = torch.linspace(-1.5, 1.5, pair_batch.sequences)[pair_batch.sequence_N]
    streams = Streams(
        pair_batch.sequence_N,
        pair_batch.sequences,
        logprob_N=logprob_N,
        sampler_logprob_N=sampler_N,
        advantage_N=advantage_N,
    )
    out = OBJECTIVES["grpo"](clip_low=0.1, clip_high=0.1, normalisation="token", kl=0.0)(streams)
    loss = grpo.grpo_loss(logprob_N, sampler_N, advantage_N, 0.1)
    assert loss.item() == pytest.approx(out.loss().item(), rel=1e-5)
    assert out.stats["clip_ratio/region_mean"].value > 0  # the batch reaches the clip
