"""Names that other loggers give to the metrics that detectors read: one table, each with where it was read.

trimpot's names are TRL's where TRL has one, so its logs need no renaming. Callbacks of transformers put ``train/``
before the names of training and ``eval/`` before those of evaluation (``rewrite_logs`` in transformers 5.24); a name is
looked up as it is first, then without ``train/``.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from trimpot.detectors import DETECTORS

TRAIN = "train/"
STEPS = (
    "train/global_step", "training/global_step", "trainer/global_step", "global_step", "step", "_step", "Step",
    "current_steps", "iteration",
)  # fmt: skip
"""Columns that hold the optimiser's step, the surest first: W&B's ``_step`` and trackio's ``step`` count calls of log,
where transformers' callbacks write the true step beside them (``train/global_step``; verl: ``training/global_step``;
Lightning: ``trainer/global_step``; LLaMA-Factory: ``current_steps``)."""
SUMMARY, SUMMARY_MARK = "train_loss", "train_runtime"
"""transformers' Trainer sums up a run at its end, train_runtime among it; its train_loss is the mean over all steps."""

OLD_GRPO = "TRL's GRPOTrainer before completions/… and clip_ratio/… (early 2025)"
OLD_PPO = "TRL's PPOTrainer and OnlineDPOTrainer, trl/trainer/ppo_trainer.py at 0.24"
FIRST_PPO = "TRL's PPOTrainer before 0.12, docs/source/logging.mdx"
VERL = "verl/trainer/ppo/metric_utils.py at 07c9cf137c88"
VERL_ACTOR = "verl/workers/actor/dp_actor.py at 0081137bacc0"


@dataclass(frozen=True)
class Alias:
    """``theirs`` is the metric ``ours`` with the same meaning and unit; ``source`` is where that was read."""

    theirs: str
    ours: str
    source: str


@dataclass(frozen=True)
class Unlike:
    """``theirs`` resembles ``ours`` and is not it: a threshold would mean something else."""

    theirs: str
    ours: str
    why: str
    source: str


ALIASES: tuple[Alias, ...] = (
    Alias("train_loss", "loss", "Lightning's LightningModule.log, as its documentation names it"),
    Alias("training_loss", "loss", "a common name in loops of one's own"),
    Alias("gradient_norm", "grad_norm", "a common name in loops of one's own"),
    Alias("completion_length", "completions/mean_length", OLD_GRPO),
    Alias("clip_ratio", "clip_ratio/region_mean", OLD_GRPO),
    Alias("objective/scores", "reward", OLD_PPO),
    Alias("policy/clipfrac_avg", "clip_ratio/region_mean", OLD_PPO),
    Alias("ppo/mean_scores", "reward", FIRST_PPO),
    Alias("ppo/policy/clipfrac", "clip_ratio/region_mean", FIRST_PPO),
    Alias("ppo/val/var_explained", "value/explained_variance", FIRST_PPO),
    Alias("tokens/responses_len_mean", "completions/mean_length", FIRST_PPO),
    Alias("critic/score/mean", "reward", VERL),
    Alias("critic/vf_explained_var", "value/explained_variance", VERL),
    Alias("response_length/mean", "completions/mean_length", VERL),
    Alias("response_length/max", "completions/max_length", VERL),
    Alias("response_length/clip_ratio", "completions/clipped_ratio", VERL),
    Alias("actor/grad_norm", "grad_norm", VERL_ACTOR),
    Alias("actor/entropy", "entropy", VERL_ACTOR),
    Alias("actor/kl_loss", "kl", VERL_ACTOR),
    Alias("actor/pg_clipfrac", "clip_ratio/region_mean", VERL_ACTOR),
)
PER_COMPLETION = "it is summed over a completion's tokens; the threshold is per token"
UNLIKE: tuple[Unlike, ...] = (
    Unlike("objective/kl", "kl", PER_COMPLETION, OLD_PPO),
    Unlike("objective/entropy", "entropy", PER_COMPLETION, OLD_PPO),
    Unlike("policy/entropy_avg", "entropy", "its mean is over padding too", OLD_PPO),
    Unlike("ppo/policy/entropy", "entropy", "its mean is over padding too", FIRST_PPO),
    Unlike("policy/approxkl_avg", "kl", "it is between two updates, not to the reference", OLD_PPO),
    Unlike("actor/ppo_kl", "kl", "it is between two updates, not to the reference", VERL_ACTOR),
    Unlike("objective/rlhf_reward", "reward", "the KL penalty is in it", OLD_PPO),
    Unlike("critic/rewards/mean", "reward", "the KL penalty is in it", VERL),
    Unlike("cispo_clip_ratio", "clip_ratio/region_mean", "CISPO clips weights, not gradients", "TRL 1.16 GRPOTrainer"),
    Unlike("eval_loss", "loss", "it is of an evaluation; detectors read training steps", "transformers 5.24"),
    Unlike("eval/loss", "loss", "it is of an evaluation; detectors read training steps", "transformers 5.24"),
)


@dataclass(frozen=True)
class Renamed:
    """``names``: our name -> the column; ``unlike``: column -> why it is not read, where nothing better was found."""

    names: Mapping[str, str]
    unlike: Mapping[str, str]


def watched_metrics() -> tuple[str, ...]:
    """Every metric that some detector reads, in the order of the detectors."""
    return tuple(dict.fromkeys(metric for kind in DETECTORS.values() for metric in kind().metrics))


def our_name(column: str) -> str | None:
    """The metric that a column holds; None where it is none that a detector reads."""
    return next((ours for ours, _ in _readings(column)), None)


def rename(columns: Iterable[str]) -> Renamed:
    """Finds the column of every metric. A name of our own comes before one with ``train/``, that before an alias."""
    columns = list(columns)
    if any(column.rpartition("/")[2] == SUMMARY_MARK for column in columns):
        columns = [column for column in columns if column != SUMMARY]
    best: dict[str, tuple[int, str]] = {}
    for column in columns:
        for ours, rank in _readings(column)[:1]:
            if ours not in best or rank < best[ours][0]:
                best[ours] = (rank, column)
    why = {one.theirs: one for one in UNLIKE}
    unlike = {
        column: f"{found.why} ({found.source})"
        for column in columns
        if (found := why.get(column) or why.get(column.removeprefix(TRAIN))) is not None and found.ours not in best
    }
    order = {name: place for place, name in enumerate(watched_metrics())}
    return Renamed({ours: best[ours][1] for ours in sorted(best, key=order.__getitem__)}, unlike)


def _readings(column: str) -> list[tuple[str, int]]:
    """What a column may be, with a rank: lower is surer."""
    known, aliases = set(watched_metrics()), {one.theirs: one.ours for one in ALIASES}
    bare = column.removeprefix(TRAIN)
    # train/train_loss is a summary of the run in transformers' callbacks: an alias with its own "train" is taken whole.
    stripped = bare if not bare.startswith("train") else column
    found = [(name, rank) for rank, name in enumerate((column, stripped)) if name in known]
    return found + [(aliases[name], rank) for rank, name in enumerate((column, stripped), 2) if name in aliases]


def nearest_metrics(columns: Sequence[str]) -> str:
    """The end of an error line about columns of which none is known: the nearest known names, else some of all."""
    known = sorted({*watched_metrics(), *(one.theirs for one in ALIASES)})
    close = {
        column: found[0]
        for column in columns
        if (found := difflib.get_close_matches(column.lower().rpartition(" - ")[2], known, n=1, cutoff=0.6))
    }
    if not close:
        return "Log at least one of: loss, grad_norm, reward, kl, rewards/margins (all names: docs/detectors.md)."
    shown = list(close.items())[:3]
    return "Did you mean " + ", ".join(f"{name!r} for {column!r}" for column, name in shown) + "?"
