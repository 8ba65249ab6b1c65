"""Data stages: rows constructed from samples, of the policy itself or of a teacher, scored by the rows' verifiers."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from trimpot.core.errors import UsageError
from trimpot.core.rows import PromptRow, Row
from trimpot.data.forms import record_of
from trimpot.data.lineage import write_lineage
from trimpot.data.pairs import RIGHT_FROM, pairs_from_samples
from trimpot.data.rejection import chat_rows_from_samples
from trimpot.data.template import ChatTemplate
from trimpot.evaluation.run import TIME_LIMIT
from trimpot.models.policy import Policy
from trimpot.recipe.compute import sampling_flops
from trimpot.recipe.context import Context
from trimpot.recipe.jobs import load_named
from trimpot.recipe.schema import Stage
from trimpot.recipe.settings import DataSettings
from trimpot.rollout.engine import Completion, decode, generate
from trimpot.rollout.rewards import Rewards
from trimpot.rollout.sampling import SamplingSettings
from trimpot.store.atomic import write_text
from trimpot.store.run_folder import StageFolder

NOTHING = {
    "pairs": "no prompt got both a right and a wrong completion",
    "rejection": "no completion was right",
    "distillation": "no completion came to its end",
}


def make_rows(context: Context, stage: Stage, folder: StageFolder) -> dict[str, Any]:
    """Samples completions of every prompt, scores them, and writes the constructed rows to rows.jsonl.

    Raises:
        UsageError: no prompt gave a row.
    """
    settings: DataSettings = stage.get(DataSettings)
    prompts = context.prompts(stage)
    policy = context.policy if settings.teacher is None else load_named(context, settings.teacher)
    groups = _sample(context, stage, policy, prompts)
    texts = [[decode(policy, one) for one in group] for group in groups]
    rows = _rows(settings, prompts, texts, _scores(settings, prompts, groups, texts))
    if not rows:
        raise UsageError(
            stage.name, NOTHING[settings.method], "Raise samples, temperature or max_tokens, or train more."
        )
    lines = [json.dumps(record_of(row), ensure_ascii=False) + "\n" for row in rows]
    write_text(folder.path / "rows.jsonl", "".join(lines))
    write_lineage(rows, folder.path / "lineage.parquet")
    whose = "own samples" if policy is context.policy else f"samples of {policy.name}"
    notes = f"constructed ({settings.method}): {len(rows)} rows of {len(prompts)} prompts x {settings.samples} {whose}"
    tokens = sum(len(context.template.prompt(row)) for row in prompts)
    tokens += sum(len(one.ids) for group in groups for one in group)
    judged = "" if settings.method == "distillation" else ", by verifier"
    return {"rows": len(rows), "notes": notes + judged, "flops": sampling_flops(policy, tokens)}


def _sample(context: Context, stage: Stage, policy: Policy, prompts: Sequence[PromptRow]) -> list[list[Completion]]:
    settings: DataSettings = stage.get(DataSettings)
    template = ChatTemplate(policy.tokenizer, policy.virtual_ids)
    sampling = SamplingSettings(settings.temperature, settings.max_tokens)
    return generate(
        policy, [template.prompt(row) for row in prompts], settings.samples, sampling,
        context.stage_seed(stage), context.progress(f"sample {stage.name}"),
    )  # fmt: skip


def _scores(
    settings: DataSettings,
    prompts: Sequence[PromptRow],
    groups: Sequence[Sequence[Completion]],
    texts: Sequence[Sequence[str]],
) -> list[list[float]]:
    """The verifier's scores; a completion that did not end, or could not be scored, has 0.

    Of a teacher every answer that ended has 1: prompts need no answer of their own. One that was cut off has NaN, which
    is passed over, as it would be taught an end where it has none.
    """
    if settings.method == "distillation":
        return [[1.0 if one.finished else math.nan for one in group] for group in groups]
    with Rewards(None, {}, TIME_LIMIT) as rewards:
        scored = rewards.score(prompts, [()] * len(prompts), groups, texts)
    return [
        [mark.value if one.finished and mark.status != "error" else 0.0 for one, mark in zip(*pair, strict=True)]
        for pair in zip(groups, scored, strict=True)
    ]


def _rows(
    settings: DataSettings,
    prompts: Sequence[PromptRow],
    texts: Sequence[Sequence[str]],
    scores: Sequence[Sequence[float]],
) -> Sequence[Row]:
    if settings.method == "pairs":
        return pairs_from_samples(prompts, texts, scores)
    constructed = {"rejection": "rejection sampling", "distillation": "teacher's answers"}[settings.method]
    return chat_rows_from_samples(prompts, texts, scores, RIGHT_FROM, settings.per_prompt, constructed)
