"""Evaluations within a run: the policy after a stage, its change against another, best of n, a reward model's picks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trimpot.core.rows import PromptRow, Row
from trimpot.evaluation.best_of import MAJORITY, VERIFIER, best_of_n, by_majority, by_reward, by_verifier
from trimpot.evaluation.reward_report import reward_report
from trimpot.evaluation.run import EvaluationSettings, evaluate
from trimpot.models.reward import RewardModel
from trimpot.recipe.compute import FORWARD, flops_of_stage, judge_weights, sampling_flops
from trimpot.recipe.context import Context
from trimpot.recipe.judges import model_judge
from trimpot.recipe.names import BASE, TRAINS_POLICY
from trimpot.recipe.settings import JudgeSettings
from trimpot.rollout.rewards import RewardModelJudge
from trimpot.rollout.sampling import SamplingSettings
from trimpot.statistics.paired import paired_difference
from trimpot.statistics.power import smallest_detectable_effect
from trimpot.store.outcomes import Outcome, read_outcomes, write_outcomes
from trimpot.store.run_folder import StageFolder

BEST_OF = 4
JUDGED = "reward"
"""The kind of stage whose outcomes are a reward model's picks, not a policy's answers."""


def evaluate_stage(
    context: Context,
    folder: StageFolder,
    rows: list[PromptRow],
    settings: EvaluationSettings,
    how: JudgeSettings,
) -> list[str]:
    """Evaluates the policy as it is now, writes the outcomes, and says how it changed against the stage it began with,
    and against the one whose compute it was given.

    Greedy answers always; with ``settings.samples`` sampled ones too: a policy gradient raises the expected score of a
    sample, which can move while the most likely answer does not; with ``settings.best_of`` the pick of so many.
    """
    tokens, run = settings.max_tokens, context.run.name
    greedy = evaluate(context.policy, rows, context.template, tokens, run, context.progress(f"evaluate {folder.name}"))
    write_outcomes(folder.outcomes_path, greedy)
    others = _compared(context, folder)
    notes = [change("greedy", name, read_outcomes(other.outcomes_path), greedy) for name, other in others]
    if settings.samples:
        progress = context.progress(f"sample {folder.name}")
        sampled = evaluate(context.policy, rows, context.template, tokens, run, progress, settings.samples)
        write_outcomes(folder.sampled_outcomes_path, sampled)
        right = sum(one.score or 0.0 for one in sampled) / len(sampled)
        notes.append(f"sampled at temperature 1: {100 * right:.1f}% right")
        notes += [
            change("sampled", name, read_outcomes(other.sampled_outcomes_path), sampled)
            for name, other in others
            if other.sampled_outcomes_path.exists()
        ]
    if settings.best_of > 1:
        judge = (
            None
            if settings.judge in (MAJORITY, VERIFIER)
            else model_judge(settings.judge, how, context.run, context.policy)
        )
        notes += _best_of(context, folder, rows, settings, judge)
    return [note for note in notes if note]


def _compared(context: Context, folder: StageFolder) -> list[tuple[str, StageFolder]]:
    """The stages to compare with: where it began, and the one whose compute it had, in words."""
    earlier = _evaluated_before(context, folder)
    found = [] if earlier is None else [(earlier.name, earlier)]
    record = folder.record()
    named = record.get("settings", {}).get("compute_of")
    if named is not None:
        other = context.run.stage(named)
        if other.outcomes_path.exists() and other.record()["kind"] != JUDGED:
            found.append((f"{named} at equal compute ({flops_of_stage(context.run, named):.2g} operations)", other))
    return found


def _evaluated_before(context: Context, folder: StageFolder) -> StageFolder | None:
    stages = context.run.stages()
    names = [stage.name for stage in stages]
    start = folder.record().get("start")
    if start is not None and start in names:
        begun = context.run.stage(start)
        return begun if begun.outcomes_path.exists() else None
    earlier = [
        stage
        for stage in stages[: names.index(folder.name)]
        if stage.outcomes_path.exists() and (stage.record()["kind"] in TRAINS_POLICY or stage.name == BASE)
    ]
    return earlier[-1] if earlier else None


def _best_of(
    context: Context,
    folder: StageFolder,
    rows: list[PromptRow],
    settings: EvaluationSettings,
    judge: RewardModelJudge | None,
) -> list[str]:
    pick = by_majority if settings.judge == MAJORITY else by_verifier if judge is None else by_reward(judge)
    sampling = SamplingSettings(temperature=1.0, max_tokens=settings.max_tokens)
    progress = context.progress(f"best of {settings.best_of}")
    outcomes, best = best_of_n(
        context.policy, pick, rows, context.template, sampling, settings.best_of,
        context.run.name, progress,
    )  # fmt: skip
    path = folder.path / "best_of_outcomes.parquet"
    write_outcomes(path, outcomes)
    tokens = settings.best_of * sum(len(one.prompt_ids) + settings.max_tokens for one in outcomes)
    judged = 0 if judge is None else FORWARD * judge_weights([judge]) * tokens
    cost = f"at most {sampling_flops(context.policy, tokens) + judged:.2g} operations"
    notes = [
        f"best of {best.n} by {settings.judge}: {100 * best.picked:.1f}% right ({cost}); "
        f"{100 * best.mean:.1f}% at random, {100 * best.best:.1f}% at best"
    ]
    greedy = read_outcomes(folder.outcomes_path)
    notes.append(change(f"best of {best.n}", "its own greedy answers", greedy, outcomes))
    return notes


def change(what: str, name: str, before: Sequence[Outcome], after: Sequence[Outcome]) -> str:
    """The paired difference in score to the stage before, in words, with the smallest one that these items can show.

    Several outcomes of an item count as their mean. Edge cases: fewer than two items in common: empty.
    """
    old, new = _by_item(before), _by_item(after)
    common = [item for item in new if item in old]
    if len(common) < 2:
        return ""
    differences = [new[item] - old[item] for item in common]
    estimate = paired_difference([new[item] for item in common], [old[item] for item in common])
    least = smallest_detectable_effect(differences)
    assert estimate.value is not None
    interval = ""
    if estimate.low is not None and estimate.high is not None:
        interval = f" [{100 * estimate.low:+.1f}, {100 * estimate.high:+.1f}]"
    shown = "" if least is None else f"; {len(common)} items show a true change of {100 * least:.1f} with power 0.8"
    return f"{what}, against {name}: {100 * estimate.value:+.1f} points{interval}{shown}"


def _by_item(outcomes: Sequence[Outcome]) -> dict[str, float]:
    scores: dict[str, list[float]] = {}
    for one in outcomes:
        scores.setdefault(one.item, []).append(one.score or 0.0)
    return {item: sum(values) / len(values) for item, values in scores.items()}


def judge_stage(context: Context, judge: RewardModel, folder: StageFolder, held_out: Sequence[Row]) -> dict[str, Any]:
    """What a reward model just trained is worth: on held-out rows, and picking the best of 4 samples of the policy."""
    found: dict[str, Any] = {"notes": []}
    if held_out:
        report = reward_report(judge, held_out, context.template, folder.record()["settings"]["max_length"])
        found["held_out"] = report.as_dict()
        found["notes"].append(report.sentence())
    settings = context.recipe.evaluate
    if settings is None or not context.evaluation_rows or folder.record()["settings"]["objective"] != "bradley_terry":
        return found
    sampling = SamplingSettings(temperature=1.0, max_tokens=settings.max_tokens)
    pick = by_reward(RewardModelJudge([judge], "mean", 0.0))
    outcomes, best = best_of_n(
        context.policy, pick, context.evaluation_rows, context.template, sampling, BEST_OF,
        context.run.name, context.progress("best of 4"),
    )  # fmt: skip
    write_outcomes(folder.outcomes_path, outcomes)
    found["notes"].append(
        f"best of {best.n} samples of the policy before it: {best.picked:.3f} right as the reward model picks,"
        f" {best.mean:.3f} at random, {best.best:.3f} as the verifier picks"
    )
    return found
