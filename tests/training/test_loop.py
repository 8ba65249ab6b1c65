"""The loop: invariants at step 0, independence of micro-batches, a step equal to the naive one, skipped NaN steps."""

from __future__ import annotations

import math

import pytest
import torch

from trimpot.core.rows import ChatRow, Message, PreferencePair, PromptRow
from trimpot.core.samples import Draw, Sample
from trimpot.core.tensors import pack
from trimpot.data.prepare import tokenise
from trimpot.data.template import ChatTemplate
from trimpot.models import reward
from trimpot.models.adapters import TrainableSettings, choose_trainable
from trimpot.models.policy import Policy
from trimpot.models.tiny import tiny
from trimpot.objectives import OBJECTIVES
from trimpot.objectives.policy_gradient.grpo import GRPO
from trimpot.rollout.rewards import Rewards
from trimpot.rollout.sampling import SamplingSettings
from trimpot.rollout.settings import RolloutSettings, Sampling
from trimpot.rollout.source import RolloutSource
from trimpot.training.loop import Plan, TrainState, accumulate, train
from trimpot.training.optimizer import clip_gradients, learning_rate
from trimpot.training.reference import RowReference, reference_of
from trimpot.training.rows import DatasetSource
from trimpot.training.settings import LoopSettings, OptimizerSettings


def user(text: str) -> tuple[Message, ...]:
    return (Message("user", text),)


def assistant(text: str) -> tuple[Message, ...]:
    return (Message("assistant", text),)


CHATS = [ChatRow((*user(f"say {n}"), *assistant("x" * n))) for n in (1, 4, 9, 2)]
PAIRS = [PreferencePair(user(f"pick {n}"), assistant("yes" * n), assistant("no")) for n in (1, 2, 3, 4)]


def samples(policy: Policy, rows: list) -> tuple[Sample, ...]:
    return tokenise(rows, ChatTemplate(policy.tokenizer), 200).samples


def plan(objective: str, source, **changes) -> Plan:
    loop = LoopSettings(**{"steps": 4, "batch": 4, **changes})
    return Plan(OBJECTIVES[objective](), source, loop, OptimizerSettings(learning_rate=1e-3))


def test_bug_13_wrong_reference_model_dpo_starts_at_ln_2() -> None:
    policy = tiny("0.1m")
    one = plan("dpo", DatasetSource(samples(policy, PAIRS), 4, 0))
    one = Plan(one.objective, one.source, one.loop, one.optimizer, RowReference(policy))
    first = next(train(TrainState.new(policy, one.optimizer), one))
    assert first.metrics["loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert first.metrics["rewards/margins"] == pytest.approx(0.0, abs=1e-5)


@pytest.mark.parametrize("lora", [False, True])
def test_the_reference_stays_while_the_policy_moves(lora: bool) -> None:
    policy = tiny("0.1m")
    if lora:
        choose_trainable(policy, TrainableSettings("lora", lora_rank=2))
    source = DatasetSource(samples(policy, PAIRS), 4, 0)
    reference = reference_of(policy)
    batch = pack(source.draw(1, {}).samples, 10**6)[0]
    before = reference(batch)
    one = plan("dpo", source)
    list(train(TrainState.new(policy, one.optimizer), Plan(one.objective, source, one.loop, one.optimizer, reference)))
    assert torch.equal(reference(batch), before)
    assert not torch.equal(policy.scores(batch).logprob_N, before)


def test_cached_reference_gives_each_row_its_own_logprobs() -> None:
    policy = tiny("0.1m")
    cached, plain = RowReference(policy), reference_of(policy)
    source = DatasetSource(samples(policy, PAIRS), 3, 0)
    for step in range(1, 6):
        for batch in pack(source.draw(step, {}).samples, 60):
            assert torch.allclose(cached(batch), plain(batch), atol=1e-6)


def test_reward_model_starts_at_ln_2() -> None:
    policy = tiny("0.1m")
    judge = reward.from_policy(policy)
    choose_trainable(judge, TrainableSettings())
    one = plan("bradley_terry", DatasetSource(samples(policy, PAIRS), 4, 0), steps=15)
    steps = list(train(TrainState.new(judge, one.optimizer), one))
    assert steps[0].metrics["loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert steps[-1].metrics["loss"] < 0.5
    assert steps[-1].metrics["accuracy"] == 1.0
    assert steps[-1].metrics["chosen_longer"] is not None


@pytest.mark.parametrize(("objective", "rows"), [("sft", CHATS), ("dpo", PAIRS)])
def test_bug_04_accumulation_scaling_the_gradient_does_not_depend_on_micro_batches(objective: str, rows: list) -> None:
    found = []
    for budget in (10**6, 60, 1):
        policy = tiny("0.1m")
        one = plan(objective, None, micro_batch_tokens=budget)
        one = Plan(one.objective, None, one.loop, one.optimizer, reference_of(tiny("0.1m", seed=1)))
        batches = pack(samples(policy, rows), budget)
        _, losses = accumulate(policy, Draw(samples(policy, rows)), one)
        gradient = torch.cat([value.grad.flatten() for value in policy.trainable().values()])
        found.append((len(batches), losses["loss"], gradient))
    assert [count for count, _, _ in found] == [1, found[1][0], 4]
    assert found[1][0] > 1
    for _, loss, gradient in found[1:]:
        assert loss == pytest.approx(found[0][1], rel=1e-5)
        assert (gradient - found[0][2]).norm() <= 1e-5 * found[0][2].norm()


def test_one_step_equals_padded_transformers_and_plain_adamw() -> None:
    policy, stock = tiny("0.1m"), tiny("0.1m")
    some = samples(policy, CHATS)
    one = plan("sft", DatasetSource(some, 4, 0), steps=1)
    step = next(train(TrainState.new(policy, one.optimizer), one))
    stock.model.set_attn_implementation("sdpa")
    optimizer = torch.optim.AdamW(stock.model.parameters(), lr=learning_rate(1, 1, one.optimizer), weight_decay=0.0)
    losses, count = [], 0
    for sample in some:
        branch = sample.branches[0]
        ids = torch.tensor([branch.ids])
        labels = torch.where(torch.tensor([branch.supervised]), ids, -100)
        targets = int((labels[:, 1:] != -100).sum())
        losses.append(stock.model(ids, labels=labels).loss * targets)
        count += targets
    loss = torch.stack(losses).sum() / count
    loss.backward()
    clip_gradients(stock.model.parameters(), one.optimizer.max_grad_norm)
    optimizer.step()
    assert step.metrics["loss"] == pytest.approx(float(loss), abs=1e-5)
    for ours, theirs in zip(policy.model.parameters(), stock.model.parameters(), strict=True):
        assert torch.allclose(ours, theirs, atol=2e-6)


def rollouts(policy: Policy, rows: int, prompts: int, objective: GRPO) -> RolloutSource:
    some = [PromptRow(user(f"prompt {n}"), "e", verifier="contains") for n in range(rows)]
    sampling = Sampling(ChatTemplate(policy.tokenizer), SamplingSettings(1.0, 8), prompts)
    rewards = Rewards(None, {}, 10.0)
    return RolloutSource(policy, some, sampling, RolloutSettings(group=4), objective, rewards, {}, 0)


def test_grpo_first_step_is_on_policy() -> None:
    policy = tiny("0.1m")
    source = rollouts(policy, rows=24, prompts=24, objective=GRPO())
    one = plan("grpo", source)
    first = next(train(TrainState.new(policy, one.optimizer), one))
    assert first.metrics["sampling/ratio_mean"] == pytest.approx(1.0, abs=1e-4)
    assert first.metrics["sampling/sampling_logp_difference/mean"] < 1e-4
    assert first.metrics["clip_ratio/region_mean"] == 0.0


def test_a_step_without_finite_gradient_is_skipped_and_reported() -> None:
    policy = tiny("0.1m")
    good = samples(policy, CHATS)

    class Poisoned:
        steps_per_draw = 1

        def draw(self, step: int, carried: dict[str, float]) -> Draw:
            if step == 2:
                with torch.no_grad():
                    policy.model.get_input_embeddings().weight[0, 0] = math.nan
            elif step == 3:
                with torch.no_grad():
                    policy.model.get_input_embeddings().weight[0, 0] = 0.0
            return Draw(good)

    one = plan("sft", Poisoned())
    steps = list(train(TrainState.new(policy, one.optimizer), one))
    assert math.isnan(steps[1].metrics["loss"])
    assert math.isfinite(steps[3].metrics["loss"])


@pytest.mark.parametrize("normalisation", ["sequence", "token"])
def test_idle_groups_change_neither_loss_nor_gradient(normalisation: str) -> None:
    found = []
    for keep_idle in (True, False):
        policy = tiny("0.1m")
        # Eight draws of five rows: some rows come twice, with samples of their own.
        objective = GRPO(normalisation=normalisation)
        draw = rollouts(policy, rows=5, prompts=8, objective=objective).draw(1, {})
        assert 0 < len(draw.idle) < 8
        one = Plan(objective, None, LoopSettings(), OptimizerSettings())
        _, losses = accumulate(policy, draw if keep_idle else Draw(draw.samples), one)
        found.append((losses["loss"], torch.cat([value.grad.flatten() for value in policy.trainable().values()])))
    assert found[0][0] == pytest.approx(found[1][0], abs=1e-6)
    assert torch.allclose(found[0][1], found[1][1], atol=1e-6)


@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant"])
def test_learning_rate_rises_then_follows_its_schedule(schedule: str) -> None:
    settings = OptimizerSettings(learning_rate=1.0, schedule=schedule, warmup=0.1)
    rates = [learning_rate(step, 100, settings) for step in range(1, 101)]
    assert all(0 < rate <= 1 for rate in rates)
    assert rates[:10] == sorted(rates[:10])
    assert max(rates) == rates[10] == 1.0
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert (rates[-1] == 1.0) == (schedule == "constant")


def test_clipping() -> None:
    value = torch.nn.Parameter(torch.zeros(2))
    value.grad = torch.tensor([3.0, 4.0])
    assert clip_gradients([value], 1.0) == pytest.approx(5.0)
    assert value.grad.norm() == pytest.approx(1.0, abs=1e-5)
    value.grad = torch.tensor([0.3, 0.4])
    clip_gradients([value], 1.0)
    assert value.grad.norm() == pytest.approx(0.5)
