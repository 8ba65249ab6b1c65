"""Advantages of whole completions against others of their prompt, and why a group has none.

Shape suffixes: S sequences (completions), in groups of one prompt each; P prompts. A reward of NaN is one that could
not be given: the completion has advantage 0 and no part in any baseline.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from trimpot.core.errors import UsageError, nearest
from trimpot.objectives.policy_gradient.rollouts import Rollouts

SCALES = ("group", "batch", "none")
STD_OFFSET = 1e-4
"""Added to the standard deviation before dividing, as in TRL 1.16 grpo_trainer.py."""
ZERO_SPREAD = 1e-8
"""Rewards of a group that differ by no more count as equal (TRL's ``isclose`` has the same tolerance)."""
FULL_REWARD = 1.0 - 1e-6
"""A reward of at least this counts as right; verifiers give 1 for a right answer."""


def group_advantages(rewards: Tensor, groups: Sequence[int], scale: str = "group") -> Tensor:
    """How much better each completion did than the mean of its prompt.

    Equation: Aᵢ = (rᵢ − mean(r)) / (std(r) + 1e-4).
        r are the rewards of i's group. ``scale`` says over what the standard deviation (n − 1 in its denominator)
        runs: "group"; "batch", all rewards given; "none", no division.

    Shapes: rewards [S] -> advantages [S]; ``groups`` are the numbers of completions per prompt, in order; sum S.
    Units: standard deviations ("group", "batch") or those of the reward ("none").
    Raises: UsageError when a reward is infinite (naming its index), a group has fewer than two completions, the
        groups do not add up to S, or ``scale`` is unknown.
    Edge cases: equal rewards in a group, or fewer than two that are not NaN: exactly 0, with no rounding residue. A
        NaN itself: 0. No group: an empty tensor.
    Source: arXiv 2402.03300 sec. 4.1.2; n − 1, 1e-4 and NaN as in TRL 1.16 (grpo_trainer.py; the paper gives none of
        them); "batch" arXiv 2508.08221; "none" arXiv 2503.20783.

    Example: rewards 0, 0, 3: mean 1, deviations −1, −1, 2, std √((1 + 1 + 4) / 2) = √3 = 1.7321:

        >>> [round(value, 3) for value in group_advantages(torch.tensor([0.0, 0.0, 3.0]), [3]).tolist()]
        [-0.577, -0.577, 1.155]
    """
    if scale not in SCALES:
        raise UsageError("scale_rewards", f"{scale!r} is not a choice", nearest(scale, SCALES))
    scored = rewards.detach().double()
    scored = scored[~torch.isnan(scored)]
    batch_std = scored.std() if len(scored) > 1 else scored.new_zeros(())

    def scaled(group: Tensor) -> Tensor:
        centred = group - group.mean()
        if scale == "none":
            return centred
        return centred / ((group.std() if scale == "group" else batch_std) + STD_OFFSET)

    return _by_group(rewards, groups, scaled)


def leave_one_out(rewards: Tensor, groups: Sequence[int]) -> Tensor:
    """How much better each completion did than the mean of the others of its prompt (RLOO).

    Equation: Aᵢ = rᵢ − 1/(k − 1) Σ_{j ≠ i} rⱼ; k is the number of completions of i's prompt.

    Shapes: as ``group_advantages``.
    Units: those of the reward.
    Raises: UsageError as ``group_advantages``.
    Edge cases: as ``group_advantages``; k counts the rewards that are not NaN.
    Source: arXiv 2402.14740; NaN as in TRL 1.16 (rloo_trainer.py).

    Example: rewards 0, 0, 3; the others of the last have mean 0, those of the first (0 + 3) / 2 = 1.5:

        >>> leave_one_out(torch.tensor([0.0, 0.0, 3.0]), [3]).tolist()
        [-1.5, -1.5, 3.0]
    """
    return _by_group(rewards, groups, lambda group: group - (group.sum() - group) / (len(group) - 1))


def reward_minus_greedy(rewards: Tensor, greedy_P: Tensor, groups: Sequence[int]) -> Tensor:
    """How much better each completion did than the prompt's most likely one (ReMax).

    Equation: Aᵢ = rᵢ − r(greedy completion of i's prompt).

    Shapes: rewards [S], greedy_P [P], one for each group -> advantages [S].
    Units: those of the reward.
    Raises: UsageError when a reward is infinite, sampled or greedy, the groups do not add up to S, a group is empty,
        or there is not one greedy reward per group.
    Edge cases: either reward NaN: 0. No group: an empty tensor.
    Source: arXiv 2310.10505 algorithm 1.

    Example: the greedy completion got 1; 3 − 1 = 2:

        >>> reward_minus_greedy(torch.tensor([0.0, 3.0]), torch.tensor([1.0]), [2]).tolist()
        [-1.0, 2.0]
    """
    check_rewards(rewards, groups, smallest=1)
    if tuple(greedy_P.shape) != (len(groups),):
        problem = f"{greedy_P.numel()} greedy rewards for {len(groups)} prompts"
        raise UsageError("greedy_reward_P", problem, "Give one per prompt.")
    bad = torch.nonzero(torch.isinf(greedy_P)).flatten().tolist()
    if bad:
        problem = f"that of prompt {bad[0]} is {float(greedy_P[bad[0]])}"
        raise UsageError("greedy_reward_P", problem, "Make the reward function return a finite number.")
    sizes = torch.tensor(list(groups), dtype=torch.long, device=rewards.device)
    baseline = greedy_P.to(rewards.device).repeat_interleave(sizes)
    return (rewards - baseline).nan_to_num(nan=0.0).to(_float_of(rewards))


def group_relative(rollouts: Rollouts, scale: str) -> dict[str, Tensor]:
    """The stream advantage_N: every token has its completion's group advantage (see ``group_advantages``)."""
    advantage_S = group_advantages(rollouts.reward_S, rollouts.groups, scale)
    return {"advantage_N": advantage_S[rollouts.sequence_N]}


def zero_variance_cause(rewards: Tensor, clipped: Sequence[bool] | Tensor, groups: Sequence[int]) -> list[str | None]:
    """Why each group's rewards are all equal, so that it teaches nothing; None for a group whose rewards differ.

    The causes, the first that holds:
        "unscored": fewer than two completions have a reward, so there is nothing to compare;
        "all_clipped": every scored completion was cut off at the length limit, so no reward says anything;
        "all_right": the common reward is full (at least 1 − 1e-6);
        "all_wrong": the common reward is anything less, be it 0 or partial credit.

    Shapes: rewards, clipped [S]; ``groups`` as in ``group_advantages``; one entry per group comes back.
    Units: rewards as the verifiers give them, 1 for a right answer; NaN: none.
    Raises: UsageError as ``group_advantages``, and when ``clipped`` does not have one entry per reward.
    Edge cases: no group: an empty list.
    Source: ours; trl#3857 asks for more than ``frac_reward_zero_std``.

    Example: the first group differs, the second is right throughout, the third was cut off:

        >>> clipped = [False, False, False, False, True, True]
        >>> zero_variance_cause(torch.tensor([0.0, 1.0, 1.0, 1.0, 0.0, 0.0]), clipped, [2, 2, 2])
        [None, 'all_right', 'all_clipped']
    """
    check_rewards(rewards, groups)
    clipped_S = torch.as_tensor(clipped, dtype=torch.bool)
    if clipped_S.shape != rewards.shape:
        problem = f"{clipped_S.numel()} entries for {len(rewards)} rewards"
        raise UsageError("clipped", problem, "Give one entry per completion.")
    pairs = zip(rewards.double().split(list(groups)), clipped_S.split(list(groups)), strict=True)
    return [_cause(group, cut) for group, cut in pairs]


def check_rewards(rewards: Tensor, groups: Sequence[int], smallest: int = 2) -> None:
    """Refuses rewards that no advantage can be made of.

    Raises: UsageError when a reward is infinite (naming its index), a group has fewer completions than ``smallest``,
        or the groups do not add up to the number of rewards.
    """
    small = [index for index, size in enumerate(groups) if size < smallest]
    if small:
        problem = f"group {small[0]} has {groups[small[0]]} completion(s), so nothing to compare"
        raise UsageError("group", problem, f"Sample at least {smallest} completions per prompt.")
    if rewards.dim() != 1 or sum(groups) != len(rewards):
        problem = f"groups of {sum(groups)} completions for rewards of shape {list(rewards.shape)}"
        raise UsageError("rewards", problem, "Give one reward per completion.")
    bad = torch.nonzero(torch.isinf(rewards)).flatten().tolist()
    if bad:
        problem = f"the reward of completion {bad[0]} is {float(rewards[bad[0]])}"
        raise UsageError(f"rewards[{bad[0]}]", problem, "Make the reward function return a finite number.")


def _by_group(rewards: Tensor, groups: Sequence[int], advantages: Callable[[Tensor], Tensor]) -> Tensor:
    """The function of each group's scored rewards; 0 where there is no spread and for what is not scored."""
    check_rewards(rewards, groups)
    rewards_S = rewards.detach().double()
    parts = []
    for group in rewards_S.split(list(groups)):
        part, scored = torch.zeros_like(group), ~torch.isnan(group)
        if not _has_no_spread(group[scored]):
            part[scored] = advantages(group[scored])
        parts.append(part)
    return torch.cat([*parts, rewards_S.new_zeros(0)]).to(_float_of(rewards))


def _cause(group: Tensor, clipped: Tensor) -> str | None:
    scored = ~torch.isnan(group)
    if int(scored.sum()) < 2:
        return "unscored"
    group, clipped = group[scored], clipped[scored]
    if not _has_no_spread(group):
        return None
    if bool(clipped.all()):
        return "all_clipped"
    return "all_right" if float(group.min()) >= FULL_REWARD else "all_wrong"


def _has_no_spread(group: Tensor) -> bool:
    return len(group) < 2 or float(group.max() - group.min()) <= ZERO_SPREAD


def _float_of(rewards: Tensor) -> torch.dtype:
    return rewards.dtype if rewards.is_floating_point() else torch.float32
