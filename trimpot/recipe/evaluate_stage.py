"""Evaluations within a run: the policy after a stage, its change against the stage before, a reward model's picks."""

from __future__ import annotations

from collections.abc import Sequence

from trimpot.core.rows import PromptRow
from trimpot.evaluation.run import best_of_n, evaluate
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


def evaluate_stage(context: Context, folder: StageFolder, rows: list[PromptRow], max_tokens: int) -> str:
    """Evaluates the policy as it is now, writes the outcomes, and says how it changed (empty: nothing before it)."""
    progress = context.progress(f"evaluate {folder.name}")
    outcomes = evaluate(context.policy, rows, context.template, max_tokens, context.run.name, progress)
    write_outcomes(folder.outcomes_path, outcomes)
    before = _evaluated_before(context, folder)
    return "" if before is None else change(before.name, read_outcomes(before.outcomes_path), outcomes)


def _evaluated_before(context: Context, folder: StageFolder) -> StageFolder | None:
    stages = context.run.stages()
    position = [stage.name for stage in stages].index(folder.name)
    earlier = [
        stage for stage in stages[:position] if stage.outcomes_path.exists() and stage.record()["kind"] != JUDGED
    ]
    return earlier[-1] if earlier else None


def change(name: str, before: Sequence[Outcome], after: Sequence[Outcome]) -> str:
    """The paired difference in score to the stage before, in words, with the smallest one that these items can show.

    Edge cases: no item in common: empty.
    """
    known = {one.item: one.score for one in before}
    pairs = [(one.score or 0.0, known[one.item] or 0.0) for one in after if one.item in known]
    if len(pairs) < 2:
        return ""
    new, old = zip(*pairs, strict=True)
    difference = paired_difference(new, old)
    least = smallest_detectable_effect([a - b for a, b in pairs])
    assert difference.value is not None
    interval = ""
    if difference.low is not None and difference.high is not None:
        interval = f" [{100 * difference.low:+.1f}, {100 * difference.high:+.1f}]"
    shown = "" if least is None else f"; {len(pairs)} items show a true change of {100 * least:.1f} with power 0.8"
    return f"against {name}: {100 * difference.value:+.1f} points{interval}{shown}"


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
