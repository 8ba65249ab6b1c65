"""What every objective of the table promises. A new one is covered by its entry in OBJECTIVES alone."""

import dataclasses
import doctest
import inspect
import random
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from trimpot.core.settings import check_settings
from trimpot.core.stats import add_stats
from trimpot.core.tensors import Carries, LossOut, Objective, Streams, UsesStepStatistics
from trimpot.objectives import OBJECTIVES

HEADINGS = ("Equation:", "Shapes:", "Units:", "Raises:", "Edge cases:", "Source:", "Fails when:", "Example:")
STAGE_NAMES = {"sft", "reward", "preference", "policy_gradient", "distill"}
# Beside the defaults: settings that take another path through the equation.
VARIANTS: dict[str, list[dict[str, object]]] = {
    "gkd": [{"beta": 0.0}, {"beta": 1.0}],
    "bradley_terry": [{"center_coefficient": 0.01}, {"label_smoothing": 0.1}],
    "dpo": [{"beta": 0.5}],
    "ipo": [{"normalisation": "mean"}],
    "cdpo": [{"label_smoothing": 0.4}],
    "robust_dpo": [{"label_smoothing": 0.4}],
    "dpo_sft": [{"nll_normalisation": "token", "nll_weight": 0.3}],
    "beta_dpo": [{"beta": 0.5, "alpha": 0.0}],
    "orpo": [{"nll_normalisation": "sequence"}],
    "cpo": [{"nll_normalisation": "sum"}, {"nll_weight": 0.0}],
    "kto": [{"desirable_weight": 1.33, "undesirable_weight": 0.7}],
    "grpo": [
        {"kl": 0.04, "normalisation": "sequence", "clip_high": 0.28},
        {"kl": 0.1, "kl_estimator": "k2", "normalisation": "fixed", "completion_limit": 16},
        {"kl": 0.1, "kl_estimator": "k2", "normalisation": "token", "scale_rewards": "none"},
        {"importance": "truncate", "importance_cap": 1.2},
        {"importance": "mask", "importance_cap": 1.2, "kl": 0.04},
    ],
    "dr_grpo": [{"completion_limit": 16}, {"importance": "mask", "importance_cap": 1.2}],
    "dapo": [{"clip_high": 0.2}, {"importance": "truncate", "importance_cap": 1.2}],
    "gspo": [{"clip_low": 0.2, "clip_high": 0.2}, {"importance": "truncate", "importance_cap": 1.2}],
    "cispo": [{"clip_low": 0.2, "clip_high": 0.2}, {"importance": "mask", "importance_cap": 1.2}],
    "rloo": [{"kl": 0.0}],
    "reinforce_plus_plus": [
        {"kl": 0.0, "baseline": "group"},
        {"discount": 0.9, "importance": "truncate", "importance_cap": 1.2},
    ],
    "remax": [{"kl": 0.05}],
    "ppo": [
        {"kl": 0.0, "value_clip": None},
        {"kl_in": "loss", "kl_estimator": "k2", "importance": "truncate", "importance_cap": 1.2},
        {"target_kl": 0.1, "whiten_advantages": False},
        {"kl_in": "loss", "kl_estimator": "k3", "target_kl": 0.1},
    ],
}
CASES = [
    pytest.param(cls(**given), id="-".join([name, *(f"{key}={value}" for key, value in given.items())]))
    for name, cls in OBJECTIVES.items()
    for given in ({}, *VARIANTS.get(name, []))
]
every_case = pytest.mark.parametrize("objective", CASES)
every_class = pytest.mark.parametrize(("name", "cls"), OBJECTIVES.items(), ids=OBJECTIVES)

# Lengths of the answers of two to four pairs (or groups of two), at least one target each, and a seed.
PAIR_LENGTHS = st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5)), min_size=2, max_size=4)
SEEDS = st.integers(0, 2**32)
examples = settings(max_examples=25, deadline=None)


def random_streams(pairs: list[tuple[int, int]], seed: int) -> Streams:
    """Every stream filled with plausible random numbers, float64."""
    lengths = torch.tensor([length for pair in pairs for length in pair])
    generator, targets, sequences = torch.Generator().manual_seed(seed), int(lengths.sum()), len(lengths)

    def uniform(size: int, low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(size, dtype=torch.float64, generator=generator)

    logprob_N = uniform(targets, -4, -0.1)
    return Streams(
        sequence_N=torch.repeat_interleave(torch.arange(sequences), lengths),
        sequences=sequences,
        logprob_N=logprob_N,
        reference_logprob_N=logprob_N + uniform(targets, -1, 1),
        sampler_logprob_N=logprob_N + uniform(targets, -0.5, 0.5),
        old_logprob_N=logprob_N + uniform(targets, -0.5, 0.5),
        weight_N=uniform(targets, 0.5, 2),
        advantage_N=uniform(targets, -2, 2),
        return_N=uniform(targets, -2, 2),
        value_N=uniform(targets, -2, 2),
        old_value_N=uniform(targets, -2, 2),
        reward_S=uniform(sequences, -3, 3),
        margin_S=uniform(sequences // 2, 0, 1).repeat_interleave(2),
        # Desirable and undesirable answers, and a mismatched one after every third.
        kind_S=torch.tensor([(1.0, 0.0, -1.0)[number % 3] for number in range(sequences)], dtype=torch.float64),
        reward_N=uniform(targets, -3, 3),
        label_N=(uniform(targets, 0, 1) > 0.5).double(),
        divergence_N=uniform(targets, 0, 2),
        entropy_N=uniform(targets, 0, 3),
        correct_N=uniform(targets, 0, 1) > 0.5,
        end_N=uniform(targets, 0, 1) > 0.5,
        answer_N=(uniform(targets, 0, 1) > 0.5).double(),
    )


OTHER_FIELDS = ("sequence_N", "sequences", "step")


def stream_names() -> list[str]:
    return [field.name for field in dataclasses.fields(Streams) if field.name not in OTHER_FIELDS]


def leaf_of(objective: Objective) -> str:
    """The stream that the model makes and the gradient goes into."""
    return next(name for name in ("divergence_N", "logprob_N", "reward_S", "reward_N") if name in objective.needs)


def take(streams: Streams, chosen: list[int]) -> Streams:
    """The batch with these sequences only, in this order."""
    tokens = torch.cat([torch.nonzero(streams.sequence_N == old).flatten() for old in chosen])
    lengths = streams.lengths_S()[chosen]
    picked: dict[str, Tensor] = {}
    for name in stream_names():
        picked[name] = getattr(streams, name)[tokens if name.endswith("_N") else chosen]
    return Streams(torch.repeat_interleave(torch.arange(len(chosen)), lengths), len(chosen), **picked)


def with_leaf(objective: Objective, streams: Streams) -> tuple[Streams, Tensor]:
    leaf = getattr(streams, leaf_of(objective)).clone().requires_grad_()
    return dataclasses.replace(streams, **{leaf_of(objective): leaf}), leaf


def outs_of(objective: Objective, parts: list[Streams]) -> list[LossOut]:
    """The losses of a step's micro-batches, as the loop computes them: statistics of the step come first."""
    step = dict(objective.initial()) if isinstance(objective, Carries) else {}
    parts = [dataclasses.replace(part, step=step) for part in parts]
    if isinstance(objective, UsesStepStatistics):
        counted = add_stats(objective.step_statistics(part) for part in parts)
        step = {**step, **{name: stat.value for name, stat in counted.items() if stat.value is not None}}
        parts = [dataclasses.replace(part, step=step) for part in parts]
    return [objective(part) for part in parts]


def step_loss(outs: list[LossOut]) -> Tensor:
    """As the loop computes it: each term's totals over the step, divided by its own counts over the step."""
    terms = [term for out in outs for term in out.terms]
    counts = {name: sum(term.count for term in terms if term.name == name) for name in {term.name for term in terms}}
    return torch.stack([term.weight * term.total / counts[term.name] for term in terms if counts[term.name]]).sum()


def assert_same_step(whole: list[LossOut], whole_leaf: Tensor, parts: list[LossOut], parts_leaf: Tensor) -> None:
    whole_loss, parts_loss = step_loss(whole), step_loss(parts)
    assert parts_loss.item() == pytest.approx(whole_loss.item(), abs=1e-12)
    (whole_gradient,) = torch.autograd.grad(whole_loss, whole_leaf)
    (parts_gradient,) = torch.autograd.grad(parts_loss, parts_leaf)
    assert torch.allclose(whole_gradient, parts_gradient, atol=1e-12)
    whole_stats, parts_stats = add_stats(out.stats for out in whole), add_stats(out.stats for out in parts)
    assert whole_stats.keys() == parts_stats.keys()
    for name, stat in whole_stats.items():
        assert parts_stats[name].value == pytest.approx(stat.value, abs=1e-10), name


# The table


@every_class
def test_table(name, cls):
    assert dataclasses.is_dataclass(cls)
    assert cls.__dataclass_params__.frozen
    assert cls().name == name
    assert OBJECTIVES[name].stage in STAGE_NAMES


@every_class
def test_every_setting_is_declared_with_meaning_and_origin_and_a_default_in_range(name, cls):
    for field in dataclasses.fields(cls):
        assert field.metadata["doc"], field.name
        assert field.metadata["origin"], field.name
    check_settings(cls(), name)


@every_case
def test_settings_round_trip(objective):
    again = type(objective)(**dataclasses.asdict(objective))
    assert again == objective
    check_settings(again)


# The docstring


@every_class
def test_docstring_has_the_headings_in_order(name, cls):
    text = inspect.getdoc(cls) or ""
    places = [text.find(f"\n{heading}") for heading in HEADINGS]
    assert -1 not in places, [heading for heading, place in zip(HEADINGS, places, strict=True) if place < 0]
    assert places == sorted(places)
    assert text.splitlines()[0].endswith(".")


@every_class
def test_the_example_is_run_and_shows_its_arithmetic(name, cls):
    finder, runner = doctest.DocTestFinder(recurse=False), doctest.DocTestRunner(verbose=False)
    (test,) = finder.find(cls, cls.__name__, globs=dict(vars(sys.modules[cls.__module__])))
    wanted = [example.want for example in test.examples if example.want]
    assert len(wanted) >= 2, "one line with the arithmetic, one with the objective, the same number below both"
    assert len(set(wanted[-2:])) == 1
    assert runner.run(test).failed == 0


# The streams


@every_case
def test_a_missing_stream_is_named(objective):
    streams = random_streams([(2, 3), (1, 4)], seed=0)
    for name in objective.needs:
        with pytest.raises(ValueError, match=rf"{objective.name} needs the stream {name}"):
            objective(dataclasses.replace(streams, **{name: None}))


@every_case
def test_needs_are_enough(objective):
    streams = random_streams([(2, 3), (1, 4)], seed=0)
    others = {name: None for name in stream_names() if name not in objective.needs}
    assert torch.isfinite(objective(dataclasses.replace(streams, **others)).loss())


@every_case
def test_a_stream_of_the_wrong_length_is_named(objective):
    streams = random_streams([(2, 3), (1, 4)], seed=0)
    for name in objective.needs:
        short = dataclasses.replace(streams, **{name: getattr(streams, name)[:-1]})
        with pytest.raises(ValueError, match=f"{name} has shape"):
            objective(short)


# The numbers


@every_case
@examples
@given(pairs=PAIR_LENGTHS, seed=SEEDS)
def test_micro_batches_give_the_loss_gradient_and_statistics_of_the_whole(objective, pairs, seed):
    streams = random_streams(pairs, seed)
    cut = 2 * random.Random(seed).randint(1, len(pairs) - 1)
    whole, whole_leaf = with_leaf(objective, streams)
    split, split_leaf = with_leaf(objective, streams)
    parts = [take(split, list(range(cut))), take(split, list(range(cut, streams.sequences)))]
    assert_same_step(outs_of(objective, [whole]), whole_leaf, outs_of(objective, parts), split_leaf)


@every_case
@examples
@given(pairs=PAIR_LENGTHS, seed=SEEDS)
def test_row_order_does_not_matter(objective, pairs, seed):
    streams = random_streams(pairs, seed)
    rows = list(range(len(pairs)))
    random.Random(seed).shuffle(rows)
    whole, whole_leaf = with_leaf(objective, streams)
    source, source_leaf = with_leaf(objective, streams)
    shuffled = take(source, [2 * row + answer for row in rows for answer in (0, 1)])
    assert_same_step(outs_of(objective, [whole]), whole_leaf, outs_of(objective, [shuffled]), source_leaf)


@every_case
@examples
@given(pairs=PAIR_LENGTHS, seed=SEEDS)
def test_counts_do_not_depend_on_the_model(objective, pairs, seed):
    streams = random_streams(pairs, seed)
    leaf = leaf_of(objective)
    zeros = dataclasses.replace(streams, **{leaf: torch.zeros_like(getattr(streams, leaf))})
    real, blind = objective(streams), objective(zeros)
    assert [(term.name, term.weight, term.count) for term in real.terms] == [
        (term.name, term.weight, term.count) for term in blind.terms
    ]
    assert {name: stat.count for name, stat in real.stats.items()} == {
        name: stat.count for name, stat in blind.stats.items()
    }


@every_case
@examples
@given(pairs=PAIR_LENGTHS, seed=SEEDS)
def test_the_reported_loss_is_the_loss(objective, pairs, seed):
    (out,) = outs_of(objective, [random_streams(pairs, seed)])
    # Terms with counts of their own have no single count: the loop reports their sum.
    if "loss" in out.stats:
        assert out.stats["loss"].value == pytest.approx(out.loss().item(), abs=1e-10)


@every_case
def test_a_token_of_weight_zero_has_no_gradient_where_weights_are_read(objective):
    streams = random_streams([(2, 3), (1, 4)], seed=0)
    weight_N = torch.tensor([1.0, 0, 2, 0, 1, 1, 0, 1, 3, 0], dtype=torch.float64)
    unread = objective(streams).loss() == objective(dataclasses.replace(streams, weight_N=weight_N)).loss()
    if unread:
        assert objective.name != "sft"  # row weights are read by supervised objectives
        return
    weighted, leaf = with_leaf(objective, dataclasses.replace(streams, weight_N=weight_N))
    (gradient,) = torch.autograd.grad(objective(weighted).loss(), leaf)
    assert torch.equal(gradient == 0, weight_N == 0)


@every_case
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [200.0, -200.0])
def test_an_extreme_difference_has_a_finite_loss_and_gradient(objective, size, dtype):
    streams = random_streams([(2, 3), (1, 4)], seed=0)
    floats = {name: getattr(streams, name) for name in stream_names() if getattr(streams, name).is_floating_point()}
    streams = dataclasses.replace(streams, **{name: values.to(dtype) for name, values in floats.items()})
    leaf = getattr(streams, leaf_of(objective))
    pushed = leaf + size * torch.tensor([1.0, -1.0], dtype=dtype).repeat(len(leaf))[: len(leaf)]
    extreme, leaf = with_leaf(objective, dataclasses.replace(streams, **{leaf_of(objective): pushed}))
    out = objective(extreme)
    (gradient,) = torch.autograd.grad(out.loss(), leaf)
    assert torch.isfinite(out.loss())
    assert torch.isfinite(gradient).all()
    assert all(abs(stat.total) < float("inf") for stat in out.stats.values())


@every_case
def test_no_rows_have_no_statistics(objective):
    streams = random_streams([(1, 1)], seed=0)
    empty = {name: getattr(streams, name)[:0] for name in stream_names()}
    out = objective(Streams(streams.sequence_N[:0], 0, **empty))
    assert out.loss().item() == 0.0
    assert all(term.count == 0 for term in out.terms)
    assert all(stat.value is None for stat in out.stats.values())
