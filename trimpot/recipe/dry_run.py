"""What a recipe would do, without doing it: tokens, memory and time of every stage."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

import torch

from trimpot.evaluation.run import EvaluationSettings
from trimpot.models.adapters import TrainableSettings
from trimpot.models.critic import CriticSettings
from trimpot.models.decoder import decoder_layers
from trimpot.models.load import load
from trimpot.models.policy import Policy
from trimpot.recipe.checks import check_recipe
from trimpot.recipe.compute import weights_of
from trimpot.recipe.context import source_of
from trimpot.recipe.judges import model_names, parts_of, reward_weights
from trimpot.recipe.names import BASE, TRAINS_POLICY, named_stage
from trimpot.recipe.read import Recipe
from trimpot.recipe.schema import Stage
from trimpot.recipe.settings import DataSettings, OnlineSettings, StartSettings
from trimpot.rollout.distill import DistillSettings
from trimpot.rollout.sampling import SamplingSettings
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
    """What a stage would take; bytes, seconds and operations are estimates.

    ``rows`` is None where an earlier stage writes them. ``steps`` and ``tokens`` are None where they follow from the
    operations of another stage, ``compute_of``. ``seconds`` hold the evaluation after the stage.
    """

    name: str
    kind: str
    rows: int | None
    steps: int | None
    tokens_per_step: int
    tokens: int | None
    memory_bytes: float
    seconds: float
    operations: float
    compute_of: str | None = None

    def as_dict(self) -> dict[str, object]:
        return asdict(self)

    def cells(self) -> tuple[str, ...]:
        rows = "from an earlier stage" if self.rows is None else str(self.rows)
        steps = f"as many as {self.compute_of}'s compute buys" if self.steps is None else str(self.steps)
        tokens = "" if self.tokens is None else str(self.tokens)
        memory = f"{self.memory_bytes / 1e9:.1f} GB"
        return self.name, rows, steps, str(self.tokens_per_step), tokens, memory, _time(self.seconds)


@dataclass(frozen=True)
class Basis:
    """What estimates are made from: the model at hand, operations a second, tokens of a row that is not known yet."""

    policy: Policy
    rate: float
    usual: float

    @property
    def parameters(self) -> int:
        return weights_of(self.policy.model)


def estimate(recipe: Recipe) -> list[StageEstimate]:
    """Estimates of all stages. Loads the model and makes the checks of a run, so bad input is named here too."""
    policy = load(recipe.model, recipe.device, recipe.dtype, recipe.seed)
    checked = check_recipe(recipe, policy)
    known = [checked.tokens[one.name] for one in recipe.stages if one.name in checked.tokens and one.kind != "data"]
    basis = Basis(policy, matmul_rate(policy), sum(known) / len(known) if known else 256.0)
    results: dict[str, StageEstimate] = {}
    evaluation = 0.0
    if recipe.evaluate is not None:
        results[BASE] = _evaluation(BASE, recipe.evaluate, len(checked.items), basis)
        evaluation = results[BASE].seconds
    for stage in recipe.stages:
        rows, tokens = checked.rows.get(stage.name), checked.tokens.get(stage.name, basis.usual)
        count = None if rows is None else len(rows)
        if stage.kind == "data":
            made: DataSettings = stage.get(DataSettings)
            results[stage.name] = _generation(stage, count, (made.samples, made.max_tokens), tokens, basis)
        elif stage.kind == "evaluate":
            results[stage.name] = _evaluation(stage.name, stage.get(EvaluationSettings), count or 0, basis)
        else:
            one = _training(stage, count, tokens, basis)
            one = one if one.compute_of is None else _at_compute_of(recipe, stage, one, results, basis)
            after = evaluation if stage.kind in TRAINS_POLICY else 0.0
            results[stage.name] = replace(one, seconds=one.seconds + after)
    return list(results.values())


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


def _training(stage: Stage, rows: int | None, per_row: float, basis: Basis) -> StageEstimate:
    loop: LoopSettings = stage.get(LoopSettings)
    parameters = basis.parameters
    drawn, kept = _sampled(stage)
    if stage.kind != "distill":  # there a sampled answer takes the place of the row's
        per_row += kept
    tokens = int(per_row * loop.batch)
    # 6 operations for each weight and token of what trains, 2 for each model that only scores.
    critic = CriticSettings in stage.settings
    updates, parts = 1, 1
    if RolloutSettings in stage.settings:  # a draw serves several updates, each on a part of it
        settings: RolloutSettings = stage.get(RolloutSettings)
        updates, parts = settings.epochs * settings.minibatches, settings.minibatches
    # A draw is scored and judged once; the reference reads each row of a file once.
    share = (
        min(1.0, (rows or math.inf) / (loop.steps * loop.batch)) if stage.kind == "preference" and not drawn else 1.0
    )
    once = 2 * critic + 2 * share * _has_reference(stage) + 2 * _judges(stage)
    passes = (6 + 6 * critic + 2 * (stage.kind == "distill")) / parts + once / updates
    trained, sampled = passes * parameters * tokens, 2 * parameters * drawn * loop.batch / updates
    seconds = (trained / TRAIN_EFFICIENCY + sampled / DECODE_EFFICIENCY) / basis.rate
    memory = _memory(stage, basis.policy, parameters, min(tokens, max(loop.micro_batch_tokens, int(per_row))))
    return StageEstimate(
        stage.name, stage.kind, rows, loop.steps, tokens, tokens * loop.steps, memory, seconds * loop.steps,
        (trained + sampled) * loop.steps, stage.get(StartSettings).compute_of,
    )  # fmt: skip


def _at_compute_of(
    recipe: Recipe, stage: Stage, one: StageEstimate, results: Mapping[str, StageEstimate], basis: Basis
) -> StageEstimate:
    """The estimate of a stage that trains as much as another took, less what the rows it reads took."""
    sources = {other.name: named_stage(source_of(other)) for other in recipe.stages}

    def whole(name: str) -> float:
        source = sources[name]
        return results[name].operations + (0.0 if source is None else whole(source))

    source = sources[stage.name]
    left = max(0.0, whole(str(one.compute_of)) - (0.0 if source is None else whole(source)))
    seconds = left / (basis.rate * TRAIN_EFFICIENCY)
    return replace(one, steps=None, tokens=None, operations=left, seconds=seconds)


def _sampled(stage: Stage) -> tuple[float, float]:
    """Tokens that a step samples for each of its rows, and those of them that it trains on."""
    longest = stage.get(SamplingSettings).max_tokens * COMPLETION_SHARE if SamplingSettings in stage.settings else 0.0
    if stage.kind == "distill":
        share = stage.get(DistillSettings).on_policy_share
        return longest * share, longest * share
    if not stage.samples:
        return 0.0, 0.0
    if stage.kind == "preference":  # the best and the worst make the pair
        return longest * stage.get(OnlineSettings).samples, longest * 2
    group = stage.get(RolloutSettings).group
    greedy = "greedy_reward_P" in stage.objective.rollout_needs
    return longest * (group + greedy), longest * group


def _judges(stage: Stage) -> int:
    """Reward models that score a step's completions."""
    names = model_names(reward_weights(stage)) if stage.samples else []
    return sum(len(parts_of(name)) for name in names)


def _has_reference(stage: Stage) -> bool:
    return "reference_logprob_N" in {*stage.objective.needs, *getattr(stage.objective, "rollout_needs", ())}


def _memory(stage: Stage, policy: Policy, parameters: int, tokens: int) -> float:
    size = policy.model.dtype.itemsize
    layers, hidden = len(decoder_layers(policy.model.base_model)), policy.model.config.hidden_size
    choice: TrainableSettings = stage.get(TrainableSettings)
    # Adapters and virtual tokens are a few hundredths of the weights at most.
    share = {"all": 1.0, "last_k": choice.last_layers / layers}.get(choice.trainable, 0.02)
    loop: LoopSettings = stage.get(LoopSettings)
    # Gradient and two moments; the noise probe keeps one more gradient.
    states = parameters * size * (1 + share * (3 + ("noise_scale" in loop.probes)))
    if _has_reference(stage) and choice.trainable != "lora":
        states += parameters * size
    if stage.kind in ("reward", "distill"):  # the policy waits beside the reward model; the teacher beside the student
        states += parameters * size
    states += parameters * size * _judges(stage)
    if CriticSettings in stage.settings:
        states += parameters * size * 4
    # Recomputation keeps what enters each layer, and one layer's activations at a time.
    per_hidden = layers * size + BYTES_PER_HIDDEN if loop.recompute else layers * BYTES_PER_HIDDEN
    return PROCESS_BYTES + states + tokens * hidden * per_hidden


def _evaluation(name: str, settings: EvaluationSettings, items: int, basis: Basis) -> StageEstimate:
    answers = 1 + settings.samples + settings.best_of
    return _sampling(name, "evaluate", (items, answers, settings.max_tokens), basis.usual, basis)


def _generation(stage: Stage, rows: int | None, samples: tuple[int, int], prompt: float, basis: Basis) -> StageEstimate:
    found = _sampling(stage.name, stage.kind, (rows or 0, *samples), prompt, basis)
    return found if rows is not None else replace(found, rows=None)


def _sampling(name: str, kind: str, shape: tuple[int, int, int], prompt: float, basis: Basis) -> StageEstimate:
    """``shape``: prompts (each prefilled once), completions of each, longest completion."""
    parameters = basis.parameters
    prompts, samples, longest = shape
    completions = prompts * samples
    prefill, decode = prompts * prompt, completions * longest * COMPLETION_SHARE
    tokens = int(prefill + decode)
    seconds = 2 * parameters * (prefill / TRAIN_EFFICIENCY + decode / DECODE_EFFICIENCY) / basis.rate
    memory = PROCESS_BYTES + parameters * basis.policy.model.dtype.itemsize * 1.3
    return StageEstimate(name, kind, completions, 1, tokens, tokens, memory, seconds, 2.0 * parameters * tokens)


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.1f} min"
