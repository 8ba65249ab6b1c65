"""Every training job does the same work on both sides, and its clock and counts are what it says."""

import pytest

from benchmarks import dpo, grpo, reward, sft
from benchmarks.jobs import TOLERANCE
from benchmarks.measure import TRAINED, Clock, Weights, per_step, weights_of
from benchmarks.results import largest_difference

pytestmark = pytest.mark.usefixtures("allocator_untouched")
SIZES = {
    "sft": (sft, {"batch": 2, "max_length": 2048}),
    "dpo": (dpo, {"batch": 2}),
    "reward": (reward, {"batch": 2}),
    "grpo": (grpo, {"prompts": 2, "group": 4, "new_tokens": 6}),
}


@pytest.fixture(scope="module")
def ours(tiny_folder):
    """trimpot's result of a job, run once."""
    found = {}

    def run(name):
        if name not in found:
            module, sizes = SIZES[name]
            found[name] = module.run("trimpot", 3, model=tiny_folder, **sizes)
        return found[name]

    return run


@pytest.mark.parametrize("name", SIZES)
def test_trl_does_the_same_work(name, ours, tiny_folder):
    module, sizes = SIZES[name]
    theirs = module.run("trl", 3, model=tiny_folder, **sizes)
    assert theirs["work"] == ours(name)["work"]
    assert largest_difference(theirs["numbers"], ours(name)["numbers"]) <= TOLERANCE
    assert len(theirs["values"]) == len(ours(name)["values"]) == 2


def test_other_rows_give_other_losses(ours, tiny_folder):
    """The comparison of losses can tell: with another mask it would have to fail."""
    module, sizes = SIZES["sft"]
    other = module.run("trimpot", 3, model=tiny_folder, **{**sizes, "batch": 1})
    assert largest_difference(other["numbers"], ours("sft")["numbers"]) > TOLERANCE


def test_every_group_has_variance_and_full_length(ours):
    work = ours("grpo")["work"]
    assert work["groups_without_variance"] == 0
    assert work["sampled_tokens"] == 3 * 2 * 4 * 6


def test_the_reward_depends_on_the_completion_alone():
    assert grpo.reward("a", None) == grpo.reward("a", object())
    assert grpo.reward("a", None) != grpo.reward("b", None)
    assert 0 <= grpo.reward("", None) < 1


def test_operations_are_counted_for_timed_steps_only(ours, tiny_folder):
    found = ours("sft")
    weights = weights_of(tiny_folder)
    timed = found["operations"]
    assert len(timed) == len(found["seconds"]) == 2
    # All steps together, by the formula of the docstring; the warm-up step is one of three.
    whole = TRAINED * (weights.trunk * found["work"]["tokens"] + weights.head * found["work"]["targets"])
    assert 0 < sum(timed) < whole


def test_weights_leave_the_embeddings_out(tiny_folder):
    from trimpot.models.load import load

    model = load(tiny_folder).model
    embedding = model.get_input_embeddings().weight.numel()
    assert weights_of(tiny_folder) == Weights(sum(one.numel() for one in model.parameters()) - embedding, embedding)


def test_a_clock_waits_outside_its_steps():
    waited = []
    clock = Clock(gate=lambda: waited.append(len(clock.seconds)))
    for _ in range(3):
        clock.tick()
    assert waited == [1, 2, 3]
    found = per_step(clock, [10, 20, 30], operations=[1.0, 2.0, 3.0], further_seconds=5.0)
    assert found["operations"] == [2.0, 3.0]
    assert all(second >= 5 for second in found["seconds"])
    assert found["values"] == [20 / found["seconds"][0], 30 / found["seconds"][1]]


def test_a_missing_step_is_an_error():
    clock = Clock()
    clock.tick()
    with pytest.raises(RuntimeError, match="1 steps were timed, 2"):
        per_step(clock, [1, 1])


def test_a_gate_is_not_timed():
    import time

    clock = Clock(gate=lambda: time.sleep(0.2))
    clock.tick()
    clock.tick()
    assert clock.seconds[1] < 0.1
