"""The faults: each is put into a run that is clean without it, and named with the detector that must fire."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from trimpot.core.rows import ChatRow, Message, PreferencePair
from trimpot.core.samples import Sample
from trimpot.core.seeds import stream
from trimpot.core.stats import Stat
from trimpot.data.template import ChatTemplate
from trimpot.evaluation.reward_report import gold_accuracy
from trimpot.models.policy import Policy
from trimpot.models.reward import from_policy
from trimpot.objectives.policy_gradient.grpo import GRPO
from trimpot.objectives.policy_gradient.ppo import PPO
from trimpot.objectives.preference.dpo import DPO
from trimpot.objectives.reward.bradley_terry import BradleyTerry
from trimpot.objectives.supervised.sft import SupervisedFineTuning
from trimpot.rollout.rewards import RewardModelJudge
from trimpot.rollout.sampling import SamplingSettings
from trimpot.rollout.settings import RolloutSettings
from trimpot.studies import reversal
from trimpot.studies.labs.bench import (
    GROUP,
    Bench,
    Metrics,
    Pace,
    Replaced,
    Rollout,
    judge_by_text,
    preference,
    reward,
    rollouts,
    run,
    samples_of,
    supervised,
)
from trimpot.studies.labs.clean import PAIRS, POLICY, REWARD, SFT
from trimpot.training.rows import DatasetSource, ProbedSource

LONG = SamplingSettings(temperature=1.0, max_tokens=24)


@dataclass(frozen=True)
class Fault:
    """A fault, the detector that must fire on it, and the run that has it."""

    name: str
    detector: str
    what: str
    run: Callable[[Bench], list[Metrics]]


# Supervised


def everything_masked(bench: Bench) -> list[Metrics]:
    return _supervised(bench, lambda sample, policy: _supervise(sample, lambda token: False))


def end_masked(bench: Bench) -> list[Metrics]:
    def without_end(sample: Sample, policy: Policy) -> Sample:
        ends = set(ChatTemplate(policy.tokenizer).stop_ids)
        return _supervise(sample, lambda token: token not in ends)

    return _supervised(bench, without_end)


def prompt_leak(bench: Bench) -> list[Metrics]:
    policy = bench.untrained()
    wide, meant = (samples_of(bench.chats(), policy, mask) for mask in ("all", "assistant"))
    samples = [_with_answers_marked(one, other) for one, other in zip(wide, meant, strict=True)]
    return supervised(bench, policy, samples, SFT)


def wrong_template(bench: Bench) -> list[Metrics]:
    policy = bench.base()
    known = ChatTemplate(policy.tokenizer).hash
    policy.tokenizer.chat_template = policy.tokenizer.chat_template.replace("<|im_start|>", "### ")
    matches = Stat(float(ChatTemplate(policy.tokenizer).hash == known), 1)
    source = DatasetSource(samples_of(bench.chats(), policy), SFT.batch, bench.seed, {"template_matches": matches})
    return run(policy, SupervisedFineTuning(), source, SFT)


def _supervised(bench: Bench, change: Callable[[Sample, Policy], Sample]) -> list[Metrics]:
    policy = bench.untrained()
    samples = [change(sample, policy) for sample in samples_of(bench.chats(), policy)]
    return supervised(bench, policy, samples, SFT)


def _with_answers_marked(sample: Sample, meant: Sample) -> Sample:
    """The sample with answer_N, as a mask of answers has it; ``meant``: the same tokens under that mask."""
    (branch,), (answers,) = sample.branches, meant.branches
    pairs = zip(branch.supervised, answers.supervised, strict=True)
    marks = tuple(float(answer) for target, answer in pairs if target)
    return Sample(sample.row_id, sample.prefix, (replace(branch, streams={**branch.streams, "answer_N": marks}),))


def _supervise(sample: Sample, keep: Callable[[int], bool]) -> Sample:
    """The sample with those of its targets only."""
    (branch,) = sample.branches
    kept = [keep(token) for token, target in zip(branch.ids, branch.supervised, strict=True) if target]
    streams = {
        name: tuple(value for value, stays in zip(values, kept, strict=True) if stays)
        for name, values in branch.streams.items()
        if isinstance(values, Sequence)
    }
    mask = tuple(target and keep(token) for token, target in zip(branch.ids, branch.supervised, strict=True))
    return replace(sample, branches=(replace(branch, supervised=mask, streams=streams),))


def garbled_batch(bench: Bench) -> list[Metrics]:
    """The base model goes on with fine-tuning; in the twentieth step every answer is random letters."""
    policy = bench.base()
    draw = stream(bench.seed, "garbled")
    garbled = [
        ChatRow((*row.messages[:-1], Message("assistant", "".join(draw.choice("stuvwxyz") for _ in range(4)))))
        for row in bench.chats()[: SFT.batch]
    ]
    good, bad = (samples_of(rows, policy) for rows in (bench.chats(), garbled))
    source = Replaced(DatasetSource(good, SFT.batch, bench.seed), {20: bad})
    return run(policy, SupervisedFineTuning(), source, Pace(30, 3e-4))


# Reward models and preferences


def flipped_half(bench: Bench) -> list[Metrics]:
    """Small batches, so that few pairs are seen twice: pairs learnt by heart hide their labels."""
    pairs = reversal.with_wrong_labels(bench.easy_pairs(), 0.5, bench.seed)
    pace = Pace(steps=60, learning_rate=3e-4, batch=16)
    return reward(bench, reversal.pair_samples(pairs, bench.base()), BradleyTerry(0.01), pace)


def flipped_all(bench: Bench) -> list[Metrics]:
    """Right answers against random letters, every label the wrong way round; a tenth of the pairs has trusted labels,
    and is measured in every step.
    """
    pairs = bench.easy_pairs()
    cut = len(pairs) // 10
    trusted = reversal.pair_samples(pairs[:cut], bench.base())
    wrong = reversal.pair_samples(reversal.with_wrong_labels(pairs[cut:], 1.0, bench.seed), bench.base())
    judge = from_policy(bench.base())
    source = DatasetSource(wrong, REWARD.batch, bench.seed)
    return run(judge, BradleyTerry(0.01), ProbedSource(source, lambda: gold_accuracy(judge, trusted)), REWARD)


def longer_is_chosen(bench: Bench) -> list[Metrics]:
    """The chosen answer is the right one with letters after it: length alone tells the two apart."""
    draw = stream(bench.seed, "lengths")
    pairs = [
        PreferencePair(
            pair.prompt,
            (Message("assistant", pair.rejected[-1].content + "x" * draw.randint(1, 12)),),
            pair.rejected,
        )
        for pair in bench.pairs()
    ]
    return reward(bench, reversal.pair_samples(pairs, bench.base()), BradleyTerry(0.01), REWARD)


def uncentred(bench: Bench) -> list[Metrics]:
    """A high rate and no centring: all rewards drift together."""
    samples = reversal.pair_samples(bench.pairs(), bench.base())
    return reward(bench, samples, BradleyTerry(), Pace(280, 5e-3))


def displacement(bench: Bench) -> list[Metrics]:
    """Pairs whose answers differ in their last letter only, at a rate that pushes both down."""
    pairs = []
    for pair in bench.pairs():
        right = pair.prompt[-1].content[::-1]
        last = reversal.LETTERS[(reversal.LETTERS.index(right[-1]) + 1) % len(reversal.LETTERS)]
        chosen, rejected = (Message("assistant", right),), (Message("assistant", right[:-1] + last),)
        pairs.append(PreferencePair(pair.prompt, chosen, rejected))
    pace = replace(PAIRS, steps=80, learning_rate=1e-3)
    return preference(bench, reversal.pair_samples(pairs, bench.base()), DPO(beta=0.01), pace)


def saturation(bench: Bench) -> list[Metrics]:
    """Sixteen pairs, seen again and again at a high rate and a large β."""
    samples = reversal.pair_samples(bench.pairs()[:16], bench.base())
    pace = Pace(steps=120, learning_rate=1e-3, batch=16)
    return preference(bench, samples, DPO(beta=1.0), pace)


def wrong_reference(bench: Bench) -> list[Metrics]:
    """The reference is the model before its fine-tuning."""
    samples = reversal.pair_samples(bench.pairs(), bench.base())
    return preference(bench, samples, DPO(), PAIRS, reference=bench.untrained())


# Policy gradient


def kl_blow_up(bench: Bench) -> list[Metrics]:
    return _grpo(bench, Pace(60, 3e-3), objective=GRPO(kl=1e-4))


def entropy_collapse(bench: Bench) -> list[Metrics]:
    """One completion has the highest reward, and nothing holds the policy to its reference."""
    judge = judge_by_text(bench.base(), lambda text: text.count("a") / reversal.SAMPLING.max_tokens)
    settings = RolloutSettings(group=GROUP, rewards={"letters a": 1.0})
    return _grpo(bench, Pace(120, 1e-3), settings=settings, judges={"letters a": judge})


def all_wrong(bench: Bench) -> list[Metrics]:
    rows = [replace(row, answer="12345") for row in bench.prompts()]
    return _grpo(bench, Pace(12, 2e-4), rows=rows)


def all_right(bench: Bench) -> list[Metrics]:
    rows = [replace(row, answer="", verifier="format", metadata={"pattern": "(?s).*"}) for row in bench.prompts()]
    return _grpo(bench, Pace(12, 2e-4), rows=rows)


def truncated(bench: Bench) -> list[Metrics]:
    return _grpo(bench, Pace(12, 2e-4), sampling=SamplingSettings(1.0, 3))


def length_paid(bench: Bench) -> list[Metrics]:
    """The reward is the length; a gold verifier counts beside it."""
    judge = judge_by_text(bench.base(), lambda text: len(text) / LONG.max_tokens)
    settings = _with_gold({"length": 1.0, "exact": 0.0})
    return _grpo(bench, Pace(80, 1e-3), settings=settings, sampling=LONG, judges={"length": judge})


def flawed_verifier(bench: Bench) -> list[Metrics]:
    """The verifier pays for the letter a anywhere in the answer."""
    judge = judge_by_text(bench.base(), lambda text: min(1.0, text.count("a") / 4))
    settings = _with_gold({"letter a": 1.0, "exact": 0.0})
    return _grpo(bench, Pace(80, 1e-3), settings=settings, judges={"letter a": judge})


def over_optimised(bench: Bench) -> list[Metrics]:
    """A reward model of 48 pairs, followed far beyond what it knows."""
    judge = from_policy(bench.base())
    samples = reversal.pair_samples(bench.pairs()[:48], bench.base())
    run(judge, BradleyTerry(0.01), DatasetSource(samples, 16, bench.seed), Pace(40, 3e-4, batch=16))
    settings = _with_gold({"model": 1.0, "exact": 0.0})
    model = RewardModelJudge([judge], "mean", 0.0)
    return _grpo(bench, Pace(120, 1e-3), settings=settings, judges={"model": model})


def raising_verifier(bench: Bench) -> list[Metrics]:
    body = "if output.startswith('a'): raise ValueError('no')\n    return float(output == row.answer)"
    return _user_function(bench, "raises", body)


def two_scores(bench: Bench) -> list[Metrics]:
    body = "return (1.0, 0.0) if output.startswith('a') else float(output == row.answer)"
    return _user_function(bench, "two_scores", body)


def stale_rollouts(bench: Bench) -> list[Metrics]:
    """Completions come from the model as it was before training, at every step."""
    return _grpo(bench, Pace(20, 1e-3), sampler=bench.base())


def other_temperature(bench: Bench) -> list[Metrics]:
    """Completions are drawn at temperature 0.7, and the trainer scores them at 1."""
    return _grpo(bench, Pace(12, 2e-4), sampling=SamplingSettings(0.7, reversal.SAMPLING.max_tokens))


def random_critic(bench: Bench) -> list[Metrics]:
    """The critic's head is random, and does not train."""
    plan = Rollout(PPO(), POLICY, bench.prompts(), critic_factor=0.0, critic_noise=0.1)
    return rollouts(bench, plan)


def many_epochs(bench: Bench) -> list[Metrics]:
    """Sixteen updates on every draw at a high rate, by a reward that no group shares: most ratios are clipped."""
    judge = judge_by_text(bench.base(), lambda text: sum(map(ord, text)) / 1000)
    settings = RolloutSettings(group=GROUP, epochs=16, rewards={"late letters": 1.0})
    return _grpo(bench, Pace(64, 3e-3), settings=settings, judges={"late letters": judge})


def _grpo(bench: Bench, pace: Pace, objective: GRPO | None = None, **changes: Any) -> list[Metrics]:
    rows = changes.pop("rows", None) or bench.prompts()
    return rollouts(bench, Rollout(objective or GRPO(), pace, rows, **changes))


def _with_gold(rewards: dict[str, float]) -> RolloutSettings:
    return RolloutSettings(group=GROUP, rewards=rewards, gold="exact")


def _user_function(bench: Bench, name: str, body: str) -> list[Metrics]:
    file = bench.folder / f"{name}.py"
    file.write_text(f"def score(output, row):\n    {body}\n")
    settings = RolloutSettings(group=GROUP, rewards={f"{file}:score": 1.0})
    return _grpo(bench, Pace(6, 2e-4), settings=settings)


FAULTS: tuple[Fault, ...] = (
    Fault("everything masked", "nothing_supervised", "no token of any row is a target", everything_masked),
    Fault("end masked", "end_not_learned", "the end of every answer is left out of the loss", end_masked),
    Fault("prompt leak", "prompt_leak", "prompts are targets too, under a mask of answers", prompt_leak),
    Fault("wrong template", "template_mismatch", "another chat template than the model's own", wrong_template),
    Fault("garbled batch", "loss_spike", "one batch of random answers while fine-tuning goes on", garbled_batch),
    Fault("uncentred", "reward_drift", "a reward model at 5e-3 without centring", uncentred),
    Fault("labels flipped, half", "flipped_labels", "every second pair has its labels exchanged", flipped_half),
    Fault("labels flipped, all", "flipped_labels", "all pairs are exchanged; a tenth is trusted", flipped_all),
    Fault("longer is chosen", "reward_length_correlation", "length alone tells the chosen answer", longer_is_chosen),
    Fault("displacement", "chosen_logprob_falling", "answers differ in one letter, β 0.01, rate 1e-3", displacement),
    Fault("saturation", "margin_saturation", "sixteen pairs, 120 steps at β 1 and 1e-3", saturation),
    Fault("wrong reference", "wrong_reference", "the reference is the model before fine-tuning", wrong_reference),
    Fault("kl blow-up", "kl_blow_up", "GRPO at 3e-3 with a KL term of 1e-4", kl_blow_up),
    Fault("entropy collapse", "entropy_collapse", "one completion has the most reward; no KL term", entropy_collapse),
    Fault("all wrong", "zero_variance_groups", "no completion can be right", all_wrong),
    Fault("all right", "zero_variance_groups", "every completion is right", all_right),
    Fault("cut off", "truncated_completions", "a limit of three tokens for five-token answers", truncated),
    Fault("length paid", "length_growth", "the reward is the completion's length", length_paid),
    Fault("length exploited", "length_exploitation", "the reward is the completion's length", length_paid),
    Fault("flawed verifier", "reward_hacking", "the verifier pays for one letter", flawed_verifier),
    Fault("over-optimised", "over_optimisation", "a reward model of 48 pairs, 120 steps at 1e-3", over_optimised),
    Fault("verifier raises", "verifier_errors", "the reward function raises on some answers", raising_verifier),
    Fault("two scores", "verifier_errors", "the reward function returns two scores for some answers", two_scores),
    Fault("stale rollouts", "stale_rollouts", "completions of the model before training", stale_rollouts),
    Fault("other temperature", "sampler_mismatch", "drawn at temperature 0.7, scored at 1", other_temperature),
    Fault("random critic", "critic_worse_than_constant", "a random critic that does not train", random_critic),
    Fault("many epochs", "clip_fraction", "sixteen updates on a draw at 3e-3", many_epochs),
)
