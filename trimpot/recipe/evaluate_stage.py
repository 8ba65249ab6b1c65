"""Evaluations within a run: the policy after a stage, its change against the stage before, a reward model's picks."""

from __future__ import annotations

from collections.abc import Sequence

from trimpot.core.rows import PromptRow
from trimpot.evaluation.run import EvaluationSettings, best_of_n, evaluate
from trimpot.models.reward import RewardModel
from trimpot.recipe.context import Context
from trimpot.rollout.engine import SamplingSettings
from trimpot.statistics.paired import paired_difference
from trimpot.statistics.power import smallest_detectable_effect
from trimpot.store.outcomes import Outcome, read_outcomes, write_outcomes
from trimpot.store.run_folder import StageFolder

BEST_OF = 4
JUDGED = "reward"
"""The kind of stage whose outcomes are a reward model's picks, not a policy's answers."""


def evaluate_stage(
    context: Context, folder: StageFolder, rows: list[PromptRow], settings: EvaluationSettings
) -> list[str]:
    """Evaluates the policy as it is now, writes the outcomes, and says how it changed against the stage before.

    Greedy answers always; with ``settings.samples`` sampled ones too: a policy gradient raises the expected score of a
    sample, which can move while the most likely answer does not.
    """
    before, notes = _evaluated_before(context, folder), []
    tokens, run = settings.max_tokens, context.run.name
    greedy = evaluate(context.policy, rows, context.template, tokens, run, context.progress(f"evaluate {folder.name}"))
    write_outcomes(folder.outcomes_path, greedy)
    if before is not None:
        notes.append(change("greedy", before.name, read_outcomes(before.outcomes_path), greedy))
    if settings.samples:
        progress = context.progress(f"sample {folder.name}")
        sampled = evaluate(context.policy, rows, context.template, tokens, run, progress, settings.samples)
        write_outcomes(folder.sampled_outcomes_path, sampled)
        right = sum(one.score or 0.0 for one in sampled) / len(sampled)
        notes.append(f"sampled at temperature 1: {100 * right:.1f}% right")
        if before is not None and before.sampled_outcomes_path.exists():
            notes.append(change("sampled", before.name, read_outcomes(before.sampled_outcomes_path), sampled))
    return [note for note in notes if note]


def _evaluated_before(context: Context, folder: StageFolder) -> StageFolder | None:
    stages = context.run.stages()
    position = [stage.name for stage in stages].index(folder.name)
    earlier = [
        stage for stage in stages[:position] if stage.outcomes_path.exists() and stage.record()["kind"] != JUDGED
    ]
    return earlier[-1] if earlier else None


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


def judge_stage(context: Context, judge: RewardModel, folder: StageFolder) -> str:
    """Best-of-4 of the policy by the reward model just trained, scored by the verifier; says how it did."""
    if context.recipe.evaluate is None:
        return ""
    sampling = SamplingSettings(temperature=1.0, max_tokens=context.recipe.evaluate.max_tokens)
    progress = context.progress("best of 4")
    outcomes, best = best_of_n(
        context.policy, judge, context.evaluation_rows, context.template, sampling, BEST_OF, context.run.name, progress
    )
    write_outcomes(folder.outcomes_path, outcomes)
    return (
        f"best of {best.n} samples of the policy before it: {best.picked:.3f} right as the reward model picks,"
        f" {best.mean:.3f} at random, {best.best:.3f} as the verifier picks"
    )
