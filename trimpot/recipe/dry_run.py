"""What a recipe would do, without doing it: tokens, memory and time of every stage."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass

import torch

from trimpot.core.samples import Sample
from trimpot.data.template import ChatTemplate
from trimpot.evaluation.run import EvaluationSettings
from trimpot.models.adapters import TrainableSettings, decoder_layers
from trimpot.models.critic import CriticSettings
from trimpot.models.load import load
from trimpot.models.policy import Policy
from trimpot.recipe.compute import weights_of
from trimpot.recipe.context import check_rows, prepare
from trimpot.recipe.read import Recipe
from trimpot.recipe.schema import Stage
from trimpot.recipe.settings import DataSettings, OnlineSettings
from trimpot.rollout.distill import DistillSettings
from trimpot.rollout.engine import SamplingSettings
from trimpot.rollout.settings import RolloutSettings
from trimpot.training.settings import LoopSettings

TRAIN_EFFICIENCY = 0.6
"""Share of the matrix-product rate that training reaches: measured at 0.55 to 0.7 (SFT, two cores, fp32)."""
DECODE_EFFICIENCY = 0.3
"""The same for generation, whose matrix products are thinner and whose softmax runs over the whole vocabulary."""
COMPLETION_SHARE = 0.5
"""Length of the mean completion as a share of the longest allowed: assumed."""
BYTES_PER_HIDDEN = 76
"""Bytes of activations kept per token, layer and unit of hidden size: 19 fp32 tensors as wide as the hidden state
(norms, projections, attention, and an MLP 8/3 as wide). An estimate: ours."""
PROCESS_BYTES = 0.45e9
"""Python with torch and transformers loaded, measured."""


@dataclass(frozen=True)
class StageEstimate:
    """What a stage would take. ``rows`` is None where an earlier stage writes them; bytes and seconds are estimates."""

    name: str
    kind: str
    rows: int | None
    steps: int
    tokens_per_step: int
    tokens: int
    memory_bytes: float
    seconds: float

    def as_dict(self) -> dict[str, object]:
        return asdict(self)

    def cells(self) -> tuple[str, ...]:
        rows = "from an earlier stage" if self.rows is None else str(self.rows)
        memory = f"{self.memory_bytes / 1e9:.1f} GB"
        return (
            self.name,
            rows,
            str(self.steps),
            str(self.tokens_per_step),
            str(self.tokens),
            memory,
            _time(self.seconds),
        )


def estimate(recipe: Recipe) -> list[StageEstimate]:
    """Estimates of all stages. Loads the model and reads every row, so bad input is named here too."""
    policy = load(recipe.model, recipe.device, recipe.dtype, recipe.seed)
    template = ChatTemplate(policy.tokenizer, policy.virtual_ids)
    rows, items = check_rows(recipe, template)
    rate = matmul_rate(policy)
    samples = {
        stage.name: prepare(stage, rows[stage.name], template).samples
        for stage in recipe.stages
        if stage.name in rows and LoopSettings in stage.settings
    }
    known = [_mean_tokens(some) for some in samples.values()]
    usual = sum(known) / len(known) if known else 256.0
    results = []
    if recipe.evaluate is not None:
        results.append(
            _generation(
                "base",
                "evaluate",
                policy,
                (len(items), 1 + recipe.evaluate.samples, recipe.evaluate.max_tokens),
                usual,
                rate,
            )
        )
    for stage in recipe.stages:
        if stage.kind == "data":
            made: DataSettings = stage.get(DataSettings)
            shape = (len(rows.get(stage.name, [])), made.samples, made.max_tokens)
            results.append(_generation(stage.name, "data", policy, shape, usual, rate))
        elif stage.kind == "evaluate":
            settings: EvaluationSettings = stage.get(EvaluationSettings)
            shape = (settings.items, 1 + settings.samples + settings.best_of, settings.max_tokens)
            results.append(_generation(stage.name, "evaluate", policy, shape, usual, rate))
        else:
            results.append(_training(stage, policy, samples.get(stage.name), usual, rate))
    return results


def matmul_rate(policy: Policy) -> float:
    """Floating point operations a second of a matrix product in the model's shapes, measured in half a second."""
    device, dtype = policy.device, policy.model.dtype
    left = torch.randn(1024, 1024, device=device, dtype=dtype)
    right = torch.randn(1024, 1024, device=device, dtype=dtype)
    done, began = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - began) < 0.5:
        (left @ right)[0, 0].item()
        done += 1
    return done * 2 * 1024**3 / elapsed


def _mean_tokens(samples: tuple[Sample, ...]) -> float:
    return sum(sample.tokens for sample in samples) / max(1, len(samples))


def _training(
    stage: Stage, policy: Policy, samples: tuple[Sample, ...] | None, usual: float, rate: float
) -> StageEstimate:
    loop: LoopSettings = stage.get(LoopSettings)
    per_row = _mean_tokens(samples) if samples else usual
    sampled = _sampled(stage)
    decode = sampled * loop.batch
    if stage.kind != "distill":  # there a sampled answer takes the place of the row's
        per_row += sampled
    tokens = int(per_row * loop.batch)
    parameters = weights_of(policy.model)
    # 6 operations for each weight and token of what trains, 2 for each model that only scores.
    critic = CriticSettings in stage.settings
    passes = 6 + 8 * critic + 2 * _has_reference(stage) + 2 * (stage.kind == "distill")
    step = passes * parameters * tokens / (rate * TRAIN_EFFICIENCY)
    step += 2 * parameters * decode / (rate * DECODE_EFFICIENCY)
    memory = _memory(stage, policy, parameters, min(tokens, max(loop.micro_batch_tokens, int(per_row))))
    count = None if samples is None else len(samples)
    return StageEstimate(
        stage.name, stage.kind, count, loop.steps, tokens, tokens * loop.steps, memory, step * loop.steps
    )


def _sampled(stage: Stage) -> float:
    """Tokens that a step samples for each of its rows."""
    if stage.kind == "distill":
        completions = stage.get(DistillSettings).on_policy_share
    elif stage.samples:
        online = stage.kind == "preference"
        completions = stage.get(OnlineSettings).samples if online else stage.get(RolloutSettings).group
    else:
        return 0.0
    return float(completions * stage.get(SamplingSettings).max_tokens * COMPLETION_SHARE)


def _has_reference(stage: Stage) -> bool:
    return "reference_logprob_N" in {*stage.objective.needs, *getattr(stage.objective, "rollout_needs", ())}


def _memory(stage: Stage, policy: Policy, parameters: int, tokens: int) -> float:
    size = policy.model.dtype.itemsize
    layers, hidden = len(decoder_layers(policy)), policy.model.config.hidden_size
    choice: TrainableSettings = stage.get(TrainableSettings)
    # Adapters and virtual tokens are a few hundredths of the weights at most.
    share = {"all": 1.0, "last_k": choice.last_layers / layers}.get(choice.trainable, 0.02)
    states = parameters * size * (1 + share * 3)
    if _has_reference(stage) and choice.trainable != "lora":
        states += parameters * size
    if stage.kind in ("reward", "distill"):  # the policy waits beside the reward model; the teacher beside the student
        states += parameters * size
    if CriticSettings in stage.settings:
        states += parameters * size * 4
    return PROCESS_BYTES + states + tokens * layers * hidden * BYTES_PER_HIDDEN


def _generation(
    name: str, kind: str, policy: Policy, shape: tuple[int, int, int], prompt: float, rate: float
) -> StageEstimate:
    """``shape``: prompts (each prefilled once), completions of each, longest completion."""
    parameters = weights_of(policy.model)
    prompts, samples, longest = shape
    completions = prompts * samples
    prefill, decode = prompts * prompt, completions * longest * COMPLETION_SHARE
    tokens = int(prefill + decode)
    seconds = 2 * parameters * (prefill / TRAIN_EFFICIENCY + decode / DECODE_EFFICIENCY) / rate
    memory = PROCESS_BYTES + parameters * policy.model.dtype.itemsize * 1.3
    return StageEstimate(name, kind, completions, 1, tokens, tokens, memory, seconds)


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.1f} min"
