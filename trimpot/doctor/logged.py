"""What each metric is and how to get it into a log: by which trainer of TRL, and under which of its settings.

Source: TRL 1.16 (trl/trainer) and transformers 5.24 (trainer.py), read in the installed packages; a test looks every
name and setting up there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

EVERY = ("SFTTrainer", "DPOTrainer", "KTOTrainer", "RewardTrainer", "GRPOTrainer", "RLOOTrainer")
ROLLOUTS = ("GRPOTrainer", "RLOOTrainer")
PAIRS = ("DPOTrainer", "KTOTrainer")
NOT_IN_TRL = "TRL does not log it"


@dataclass(frozen=True)
class Logged:
    """``what`` it is, in its unit. ``trainers`` of TRL log it, under ``settings`` of their config where it takes any.

    No trainers: TRL does not log it, and ``compute`` says how to get it.
    """

    what: str
    trainers: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    compute: str = ""

    def text(self) -> str:
        """How to log it, in one line."""
        if not self.trainers:
            return f"{NOT_IN_TRL}; {self.compute}" if self.compute else NOT_IN_TRL
        under = f" with {' and '.join(self.settings)}" if self.settings else ""
        who = "every trainer of TRL" if self.trainers == EVERY else f"TRL's {' and '.join(self.trainers)}"
        log = "logs" if len(self.trainers) == 1 or self.trainers == EVERY else "log"
        return f"{who} {log} it{under}"


HELD_OUT = "score a fixed set of prompts every few steps in a TrainerCallback and log the mean"
LOGGED: Mapping[str, Logged] = {
    "loss": Logged("mean loss of the steps since the last row", EVERY, ("logging_steps=1",)),
    "grad_norm": Logged("norm of the gradient before clipping", EVERY, ("logging_steps=1",)),
    "num_target_tokens": Logged(
        "number of tokens in the loss", compute="count labels that are not -100 in the collator (num_tokens counts all)"
    ),
    "end_tokens_per_sequence": Logged(
        "end-of-turn targets per row", compute="count labels that are the end-of-turn token, by row"
    ),
    "end_token_logprob": Logged(
        "mean log-prob of the end-of-turn targets (nats)", compute="gather log-probs at those labels in compute_loss"
    ),
    "template_matches": Logged(
        "1.0 where the chat template in use is the model's own", compute="compare chat_template with the model's file"
    ),
    "prompt_tokens_share": Logged(
        "share of the targets outside answers", compute="compare labels with the spans of the assistant mask"
    ),
    "held_out/gold_accuracy": Logged(
        "accuracy on held-out pairs with trusted labels", compute="evaluate on them and log it under this name"
    ),
    "rewards/accuracies": Logged("share of pairs whose chosen answer has the larger implicit reward", ("DPOTrainer",)),
    "accuracy": Logged("share of pairs that the reward model orders rightly", ("RewardTrainer",)),
    "rewards/margins": Logged("mean implicit reward of chosen less rejected answers", PAIRS),
    "margin": Logged("mean reward of chosen less rejected answers", ("RewardTrainer",)),
    "mean_reward": Logged("mean reward of all answers", ("RewardTrainer",)),
    "reward_length_correlation": Logged(
        "correlation of reward and answer length within a step", compute="compute it in the reward function"
    ),
    "rewards/chosen": Logged("β times the log-ratio of chosen answers", PAIRS),
    "rewards/rejected": Logged("β times the log-ratio of rejected answers", PAIRS),
    "logratio/chosen": Logged("log-ratio of chosen answers (nats)", compute="divide rewards/chosen by beta"),
    "logratio/rejected": Logged("log-ratio of rejected answers (nats)", compute="divide rewards/rejected by beta"),
    "logps/chosen": Logged("log-prob of chosen answers (nats)", PAIRS),
    "logps/rejected": Logged("log-prob of rejected answers (nats)", PAIRS),
    "held_out/gold": Logged("mean score of held-out completions by a verifier you trust", compute=HELD_OUT),
    "held_out/proxy": Logged("mean score of the same completions by the reward trained on", compute=HELD_OUT),
    "reward": Logged("mean reward of the completions", ROLLOUTS),
    "completions/mean_length": Logged("mean length of the completions (tokens)", ROLLOUTS),
    "completions/max_length": Logged("length of the longest completion (tokens)", ROLLOUTS),
    "completions/clipped_ratio": Logged("share of completions cut at the token limit", ROLLOUTS),
    "reward/error_rate": Logged(
        "share of completions on which a reward function failed", compute="count exceptions in the reward function"
    ),
    "frac_reward_zero_std": Logged("share of groups with one reward for all completions", ROLLOUTS),
    "entropy": Logged("entropy of the policy (nats per token)", ("SFTTrainer", "DPOTrainer", *ROLLOUTS)),
    "sampling/weights_match": Logged(
        "1.0 where the sampler's weights are the trainer's", compute="compare a checksum of both before each draw"
    ),
    "sampling/sampling_logp_difference/mean": Logged(
        "mean |log-prob of trainer less sampler| (nats)",
        ("GRPOTrainer",),
        ("use_vllm=True", "vllm_importance_sampling_correction=True"),
    ),
    "kl": Logged("KL to the reference (nats per token)", ROLLOUTS, ("beta above 0",)),
    "clip_ratio/region_mean": Logged("share of tokens whose ratio is clipped", ROLLOUTS),
    "value/explained_variance": Logged(
        "1 − Var(return − value)/Var(return)", compute="log it from the critic's values and returns"
    ),
}
"""Metrics that are not here are logged by trimpot alone."""
PROBES = ("health/", "noise_scale/")
"""Beginnings of the names of metrics that live probes measure."""


def how_to_log(metric: str, in_trimpot: bool = False) -> str:
    """What a metric is and how to log it, in one line; of a run of trimpot's, how it gets logged there."""
    found = LOGGED.get(metric)
    what = metric if found is None else found.what
    if metric.startswith(PROBES):
        probe = metric.partition("/")[0]
        return f"{what}: trimpot's live probe {probe} measures it (probes: [{probe}] in a stage)"
    if in_trimpot:
        return f"{what}: trimpot logs it in every stage in which it can be measured"
    return f"{what}: {NOT_IN_TRL}; trimpot does" if found is None else f"{what}: {found.text()}"


def in_trl(metric: str) -> bool:
    """Whether a trainer of TRL can log it."""
    return metric in LOGGED and bool(LOGGED[metric].trainers)
