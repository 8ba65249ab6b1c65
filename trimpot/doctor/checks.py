"""What the doctor knows of each detector beside the detector itself: what it needs, how bad it is, where to go on.

A detector that is not in the table is run like the others, with `default_check`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from trimpot.core.findings import Detector
from trimpot.detectors import DETECTORS
from trimpot.doctor.log import Log

SUPERVISED, REWARD, PREFERENCE, POLICY = "supervised", "reward model", "preference", "policy gradient"
PAIRS, ALL = (REWARD, PREFERENCE), (SUPERVISED, REWARD, PREFERENCE, POLICY)
VOID, DAMAGED, WASTEFUL = 3, 2, 1
SEVERITIES = {VOID: "void", DAMAGED: "damaged", WASTEFUL: "wasteful"}
"""void: the run did not train what it was meant to; damaged: its result is worse than it could be, or cannot be
trusted; wasteful: it costs steps."""
COLLAPSE, HACKING, DISAGREEMENT, SPIKE = "training-collapse", "reward-hacking", "metric-disagreement", "loss-spike"

Least = Callable[[Any], int]


def _steps(times: int = 1, name: str = "steps", more: int = 0) -> Least:
    """The number of values that a detector with such a field needs."""

    def least(detector: Any) -> int:
        return times * int(getattr(detector, name)) + more

    return least


def _one(_: Any) -> int:
    return 1


@dataclass(frozen=True)
class Need:
    """One way for a detector to run: these metrics, so many values of each, none of ``unless`` in the log.

    ``first_step``: the log's first row must be step 1.
    """

    metrics: tuple[str, ...]
    least: Least = _one
    unless: tuple[str, ...] = ()
    first_step: bool = False


@dataclass(frozen=True)
class Check:
    """``needs``: the ways for it to run, the best first; with ``parts`` each sees something that the others do not.

    ``kinds``: the kinds of training it is for.

    ``runbook`` is a page of docs/runbooks; ``in_trl`` are the settings of TRL by which its mend is made there, as
    CONFIG.SETTING, or SETTING alone where every config has it.
    """

    needs: tuple[Need, ...]
    kinds: tuple[str, ...]
    severity: int
    runbook: str
    in_trl: tuple[str, ...] = ()
    parts: bool = False


RATE = ("learning_rate", "warmup_steps", "max_grad_norm")
GRPO_UPDATE = ("GRPOConfig.beta", "GRPOConfig.learning_rate", "GRPOConfig.num_iterations")
DIFFERENCE = "sampling/sampling_logp_difference/mean"
CORRECTION = ("GRPOConfig.vllm_importance_sampling_correction", "GRPOConfig.vllm_importance_sampling_cap")
MASKS = ("SFTConfig.assistant_only_loss", "SFTConfig.completion_only_loss")
MARGINS = (("rewards/margins", "rewards/accuracies"), ("margin", "accuracy"))
LOG_RATIOS = ("logratio/chosen", "logratio/rejected", "rewards/chosen", "rewards/rejected")

CHECKS: Mapping[str, Check] = {
    "loss_spike": Check(
        (Need(("loss",), _steps(1, "at_least", 1)), Need(("grad_norm",))), ALL, DAMAGED, SPIKE, RATE, parts=True
    ),
    "gradient_norm": Check((Need(("grad_norm",), _steps()),), ALL, DAMAGED, SPIKE, RATE),
    "update_ratio": Check((Need(("health/update_ratio",), _steps(1, "looks")),), ALL, DAMAGED, SPIKE, RATE),
    "dead_units": Check((Need(("health/dead_units",), _steps(1, "looks")),), ALL, WASTEFUL, SPIKE, RATE),
    "nonfinite_activations": Check((Need(("health/nonfinite_layers",)),), ALL, VOID, SPIKE, RATE),
    "nothing_supervised": Check(
        (Need(("num_target_tokens",)), Need(("loss",), unless=("reward", "rewards/margins", "margin"))),
        ALL, VOID, COLLAPSE, ("SFTConfig.max_length", *MASKS),
    ),
    "end_not_learned": Check(
        (Need(("end_tokens_per_sequence",), _steps()), Need(("end_token_logprob",), _steps(1, "after"))),
        (SUPERVISED,), DAMAGED, COLLAPSE, ("SFTConfig.eos_token", "SFTConfig.pad_token"), parts=True,
    ),
    "template_mismatch": Check(
        (Need(("template_matches",)),), (SUPERVISED,), DAMAGED, DISAGREEMENT, ("SFTConfig.chat_template_path",)
    ),
    "prompt_leak": Check((Need(("prompt_tokens_share",)),), (SUPERVISED,), DAMAGED, DISAGREEMENT, MASKS),
    "flipped_labels": Check(
        (
            *(Need(("held_out/gold_accuracy", name), _steps()) for name in ("rewards/accuracies", "accuracy")),
            *(Need((name, "loss"), _steps(3)) for name in ("rewards/accuracies", "accuracy")),
        ),
        PAIRS, VOID, DISAGREEMENT, ("DPOConfig.label_smoothing", "DPOConfig.loss_type"),
    ),
    "margin_saturation": Check(
        tuple(Need((*names, "loss"), _steps()) for names in MARGINS),
        PAIRS, WASTEFUL, COLLAPSE, ("DPOConfig.max_steps", "DPOConfig.label_smoothing", "DPOConfig.loss_type"),
    ),
    "reward_length_correlation": Check((Need(("reward_length_correlation",), _steps()),),
        (REWARD, PREFERENCE, POLICY), DAMAGED, HACKING),
    "reward_drift": Check((Need(("mean_reward", "margin"), _steps(2)),), (REWARD,), WASTEFUL, DISAGREEMENT,
        ("RewardConfig.center_rewards_coefficient",)),
    "chosen_logprob_falling": Check(
        (Need(("rewards/chosen", "rewards/margins"), _steps()), Need(("logps/chosen", "rewards/margins"), _steps(3))),
        (PREFERENCE,), DAMAGED, DISAGREEMENT, ("DPOConfig.beta", "DPOConfig.learning_rate", "DPOConfig.loss_type"),
    ),
    "wrong_reference": Check(
        (
            *(Need((name,), first_step=True) for name in LOG_RATIOS),
            Need(("kl", "reward"), first_step=True),
        ),
        (PREFERENCE, POLICY), VOID, DISAGREEMENT,
        ("DPOConfig.precompute_ref_log_probs", "DPOConfig.disable_dropout", "GRPOConfig.disable_dropout"),
    ),
    "over_optimisation": Check((Need(("held_out/gold", "held_out/proxy"), _steps(3)),), (POLICY,), DAMAGED, HACKING,
        ("GRPOConfig.beta", "GRPOConfig.max_steps")),
    "reward_hacking": Check((Need(("held_out/gold", "held_out/proxy"), _steps(2)),), (POLICY,), VOID, HACKING,
        ("GRPOConfig.reward_weights",)),
    "length_exploitation": Check(
        (Need(("completions/mean_length", "reward", "held_out/gold"), _steps(3)),), (POLICY,), DAMAGED, HACKING,
        ("GRPOConfig.reward_weights",),
    ),
    "verifier_errors": Check((Need(("reward/error_rate",)),), (POLICY,), DAMAGED, HACKING),
    "zero_variance_groups": Check((Need(("frac_reward_zero_std",), _steps()),), (POLICY,), DAMAGED, COLLAPSE,
        ("GRPOConfig.num_generations", "GRPOConfig.max_completion_length")),
    "entropy_collapse": Check((Need(("entropy", "reward"), _steps()),), (POLICY,), DAMAGED, COLLAPSE,
        ("GRPOConfig.temperature", "GRPOConfig.learning_rate", "GRPOConfig.epsilon_high", "GRPOConfig.beta")),
    "truncated_completions": Check((Need(("completions/clipped_ratio",), _steps()),), (POLICY,), DAMAGED, COLLAPSE,
        ("GRPOConfig.max_completion_length", "GRPOConfig.mask_truncated_completions")),
    "length_growth": Check(
        (Need(("completions/mean_length", "completions/max_length", "completions/clipped_ratio"), _steps(3)),),
        (POLICY,), WASTEFUL, HACKING, ("GRPOConfig.max_completion_length", "GRPOConfig.loss_type"),
    ),
    "stale_rollouts": Check(
        (Need(("sampling/weights_match",)), Need((DIFFERENCE,))), (POLICY,), VOID, COLLAPSE, CORRECTION
    ),
    "sampler_mismatch": Check((Need((DIFFERENCE,), _steps()),), (POLICY,), DAMAGED, DISAGREEMENT, CORRECTION),
    "kl_blow_up": Check((Need(("kl", "reward"), _steps()),), (POLICY,), DAMAGED, COLLAPSE, GRPO_UPDATE),
    "kl_negative": Check((Need(("kl", "reward"), _steps()),), (POLICY,), DAMAGED, DISAGREEMENT,
        ("GRPOConfig.top_k", "GRPOConfig.top_p", "GRPOConfig.min_p", "GRPOConfig.temperature")),
    "clip_fraction": Check((Need(("clip_ratio/region_mean",), _steps()),), (POLICY,), WASTEFUL, COLLAPSE,
        ("GRPOConfig.num_iterations", "GRPOConfig.learning_rate", "GRPOConfig.epsilon_high")),
    "critic_worse_than_constant": Check((Need(("value/explained_variance",), _steps(1, "after")),),
        (POLICY,), WASTEFUL, COLLAPSE),
}  # fmt: skip
CONFIGS = {SUPERVISED: "SFTConfig", REWARD: "RewardConfig", PREFERENCE: "DPOConfig", POLICY: "GRPOConfig"}


def default_check(detector: Detector) -> Check:
    """For a detector that the table does not know: it needs the metrics of the series that it trips on."""
    shown = tuple(name for name in detector.trips_on if name != "step")
    return Check((Need(shown),), ALL, DAMAGED, COLLAPSE)


def check_of(detector: Detector) -> Check:
    """What is known of a detector."""
    return CHECKS.get(detector.name) or default_check(detector)


def detectors_for(beta: float | None) -> tuple[Detector, ...]:
    """Every detector there is; those that must know the run's β (TRL logs β times the log-ratio) get it."""
    made: list[Detector] = []
    for kind in DETECTORS.values():
        detector: Any = kind()
        if beta is not None and "beta" in {item.name for item in dataclasses.fields(detector)}:
            detector = dataclasses.replace(detector, beta=beta)
        made.append(detector)
    return tuple(made)


def kinds_of(log: Log) -> tuple[str, ...]:
    """What kind of training a log is of, by its metrics; online preferences are two."""
    kinds = []
    if any(log.has(name) for name in ("rewards/margins", "rewards/chosen", "logps/chosen", "logratio/chosen")):
        kinds.append(PREFERENCE)
    elif log.has("margin") or log.has("mean_reward") or log.has("accuracy"):
        kinds.append(REWARD)
    if any(log.has(name) for name in ("reward", "frac_reward_zero_std", "completions/mean_length")):
        kinds.append(POLICY)
    return tuple(kinds) or (SUPERVISED,)


def settings_in_trl(check: Check, kinds: tuple[str, ...]) -> tuple[str, ...]:
    """The settings of TRL by which the mend is made in a run of these kinds."""
    configs = [CONFIGS[kind] for kind in kinds]
    whole = [name if "." in name else f"{configs[0]}.{name}" for name in check.in_trl]
    return tuple(name for name in whole if name.partition(".")[0] in configs)
