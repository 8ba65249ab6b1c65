"""Group-relative advantages, and why a group has none.

Shape suffix: S sequences (completions), in groups of one prompt each.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from trimpot.core.errors import UsageError, nearest

SCALES = ("group", "batch", "none")
STD_OFFSET = 1e-4
"""Added to the standard deviation before dividing, as in TRL 1.16 grpo_trainer.py."""
ZERO_SPREAD = 1e-8
"""Rewards of a group that differ by no more count as equal (TRL's ``isclose`` has the same tolerance)."""
FULL_REWARD = 1.0 - 1e-6
"""A reward of at least this counts as right; verifiers give 1 for a right answer."""


def group_advantages(rewards: Tensor, groups: Sequence[int], scale: str = "group") -> Tensor:
    """How much better each completion did than the others of its prompt.

    Equation: Aᵢ = (rᵢ − mean(r)) / (std(r) + 1e-4).
        r are the rewards of i's group. ``scale`` says over what the standard deviation (n − 1 in its denominator)
        runs: "group"; "batch", all rewards given; "none", no division.

    Shapes: rewards [S] -> advantages [S]; ``groups`` are the numbers of completions per prompt, in order; sum S.
    Units: standard deviations ("group", "batch") or those of the reward ("none").
    Raises: UsageError when a reward is not finite (naming its index), a group has fewer than two completions,
        the groups do not add up to S, or ``scale`` is unknown.
    Edge cases: equal rewards in a group: exactly 0, with no rounding residue. No group: an empty tensor.
    Source: arXiv 2402.03300 sec. 4.1.2; n − 1 and 1e-4 as in TRL 1.16 (grpo_trainer.py; the paper gives neither);
        "batch" arXiv 2508.08221; "none" arXiv 2503.20783. TRL gives an unscorable completion advantage 0; here
        a NaN is an error.

    Example: rewards 0, 0, 3: mean 1, deviations −1, −1, 2, std √((1 + 1 + 4) / 2) = √3 = 1.7321:

        >>> [round(value, 3) for value in group_advantages(torch.tensor([0.0, 0.0, 3.0]), [3]).tolist()]
        [-0.577, -0.577, 1.155]
    """
    if scale not in SCALES:
        raise UsageError("scale_rewards", f"{scale!r} is not a choice", nearest(scale, SCALES))
    _check_groups(rewards, groups)
    rewards_S = rewards.detach().double()
    batch_std = rewards_S.std() if len(rewards_S) else rewards_S.sum()
    parts = []
    for group in rewards_S.split(list(groups)):
        if _has_no_spread(group):
            parts.append(torch.zeros_like(group))
            continue
        centred = group - group.mean()
        divisor = {"group": group.std() + STD_OFFSET, "batch": batch_std + STD_OFFSET, "none": 1.0}[scale]
        parts.append(centred / divisor)
    dtype = rewards.dtype if rewards.is_floating_point() else torch.float32
    return torch.cat([*parts, rewards_S.new_zeros(0)]).to(dtype)


def zero_variance_cause(rewards: Tensor, clipped: Sequence[bool] | Tensor, groups: Sequence[int]) -> list[str | None]:
    """Why each group's rewards are all equal, so that it teaches nothing; None for a group whose rewards differ.

    The causes, the first that holds:
        "all_clipped": every completion was cut off at the length limit, so no reward says anything;
        "all_right": the common reward is full (at least 1 − 1e-6);
        "all_wrong": the common reward is anything less, be it 0 or partial credit.

    Shapes: rewards, clipped [S]; ``groups`` as in ``group_advantages``; one entry per group comes back.
    Units: rewards as the verifiers give them, 1 for a right answer.
    Raises: UsageError as ``group_advantages``, and when ``clipped`` does not have one entry per reward.
    Edge cases: no group: an empty list.
    Source: ours; trl#3857 asks for more than ``frac_reward_zero_std``.

    Example: the first group differs, the second is right throughout, the third was cut off:

        >>> clipped = [False, False, False, False, True, True]
        >>> zero_variance_cause(torch.tensor([0.0, 1.0, 1.0, 1.0, 0.0, 0.0]), clipped, [2, 2, 2])
        [None, 'all_right', 'all_clipped']
    """
    _check_groups(rewards, groups)
    clipped_S = torch.as_tensor(clipped, dtype=torch.bool)
    if clipped_S.shape != rewards.shape:
        problem = f"{clipped_S.numel()} entries for {len(rewards)} rewards"
        raise UsageError("clipped", problem, "Give one entry per completion.")
    pairs = zip(rewards.double().split(list(groups)), clipped_S.split(list(groups)), strict=True)
    return [_cause(group, cut) if _has_no_spread(group) else None for group, cut in pairs]


def _cause(group: Tensor, clipped: Tensor) -> str:
    if bool(clipped.all()):
        return "all_clipped"
    return "all_right" if float(group.min()) >= FULL_REWARD else "all_wrong"


def _has_no_spread(group: Tensor) -> bool:
    return float(group.max() - group.min()) <= ZERO_SPREAD


def _check_groups(rewards: Tensor, groups: Sequence[int]) -> None:
    small = [index for index, size in enumerate(groups) if size < 2]
    if small:
        problem = f"group {small[0]} has {groups[small[0]]} completion(s), so nothing to compare"
        raise UsageError("group", problem, "Sample at least 2 completions per prompt.")
    if rewards.dim() != 1 or sum(groups) != len(rewards):
        problem = f"groups of {sum(groups)} completions for rewards of shape {list(rewards.shape)}"
        raise UsageError("rewards", problem, "Give one reward per completion.")
    bad = torch.nonzero(~torch.isfinite(rewards)).flatten().tolist()
    if bad:
        problem = f"the reward of completion {bad[0]} is {float(rewards[bad[0]])}"
        raise UsageError(f"rewards[{bad[0]}]", problem, "Make the reward function return a finite number.")
