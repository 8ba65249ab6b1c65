"""What the studies on GRPO measure, by hand; and the constructed task of words of several lengths."""

import math

import pytest

from trimpot.core.rows import Message, PromptRow
from trimpot.models.tiny import tiny
from trimpot.objectives.policy_gradient.grpo import GRPO
from trimpot.rollout.engine import Completion
from trimpot.studies.grpo_task import (
    Draws,
    defined,
    lengths_of_wrong,
    mean_over_steps,
    share_of_extremes,
    train_on_groups,
)
from trimpot.studies.lengths import prepare_lengths, subject_with_lengths, words_of_lengths
from trimpot.training.loop import Step

SMALL = {
    "subject": "lengths", "shortest": 3, "longest": 4, "max_tokens": 8, "stop_at": 0.3, "sft_steps": 260,
    "prompts": 64, "held_out": 8,
}  # fmt: skip


def step(rewards, **metrics):
    return Step(1, metrics, (), tuple({"reward": reward} for reward in rewards))


def rights(count, of=8):
    return [1.0] * count + [0.0] * (of - count)


def test_the_share_of_extremes_by_hand():
    # 1 and 4 right of 8: Σ|A| without division is 2 · 8 · p (1 − p): 1.75 and 4.
    drawn = step([*rights(1), *rights(4)])
    assert share_of_extremes([drawn], 8, "none") == pytest.approx(1.75 / 5.75)
    # By the standard deviation, √(8 p (1 − p) / 7): 1.75 / 0.3536 = 4.95 and 4 / 0.5345 = 7.48, each less by its 1e-4.
    few, half = 1.75 / (math.sqrt(0.125) + 1e-4), 4 / (math.sqrt(2 / 7) + 1e-4)
    assert share_of_extremes([drawn], 8, "group") == pytest.approx(few / (few + half))


def test_extremes_are_few_and_nearly_all_and_groups_without_variance_weigh_nothing():
    assert share_of_extremes([step([*rights(1), *rights(7)])], 8, "none") == pytest.approx(1.0)
    assert share_of_extremes([step([*rights(2), *rights(6)])], 8, "none") == 0.0
    with_equal = step([*rights(0), *rights(8), *rights(1), *rights(4)])
    assert share_of_extremes([with_equal], 8, "none") == pytest.approx(1.75 / 5.75)
    assert share_of_extremes([step(rights(8))], 8, "none") is None


def test_steps_count_alike_and_those_without_a_gradient_do_not():
    steps = [step(rights(1)), step(rights(4)), step(rights(0))]
    assert share_of_extremes(steps, 8, "group") == pytest.approx(0.5)


def test_a_mean_over_steps_leaves_out_what_is_missing():
    steps = [step([], share=0.5), step([], share=None), step([]), step([], share=1.0)]
    assert mean_over_steps(steps, "share") == 0.75
    assert mean_over_steps(steps, "other") is None
    assert defined(share=0.0, other=None) == {"share": 0.0}


class Sampled:
    """A subject whose completions and scores are given."""

    def __init__(self, groups, scores):
        self.groups, self.scores = groups, scores

    def sampled(self, policy, rows, samples, seed):
        return self.groups, self.scores


def test_the_excess_of_wrong_completions_counts_from_the_right_answer():
    rows = [PromptRow((Message("user", word),), word[::-1]) for word in ("abc", "abcdef")]
    completions = [[Completion([1] * length) for length in lengths] for lengths in ((4, 6), (5, 9))]
    # Right answers have 4 and 7 tokens with the end; the first is right, the others exceed by 2, −2 and 2.
    subject = Sampled(completions, [[1.0, 0.0], [0.0, 0.0]])
    found = lengths_of_wrong(tiny("0.1m"), subject, rows, 2, 0)
    assert found == {"excess/wrong": pytest.approx(2 / 3), "share/longer": pytest.approx(2 / 3)}
    assert lengths_of_wrong(tiny("0.1m"), Sampled(completions, [[1.0, 1.0], [1.0, 1.0]]), rows, 2, 0) == {}


def test_words_of_lengths_are_distinct_and_a_longer_list_begins_with_the_shorter():
    rows = words_of_lengths(600, 3, 6, 0)
    words = [row.prompt[0].content for row in rows]
    assert len(set(words)) == 600
    assert {len(word) for word in words} == {3, 4, 5, 6}
    assert all(90 < sum(len(word) == length for word in words) < 210 for length in (3, 4, 5, 6))
    assert rows[0].answer == words[0][::-1]
    assert rows[:100] == words_of_lengths(100, 3, 6, 0)
    assert rows != words_of_lengths(600, 3, 6, 1)
    with pytest.raises(ValueError, match="300 words"):
        words_of_lengths(300, 3, 3, 0)


@pytest.fixture(scope="module")
def subject(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lengths")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        prepare_lengths(SMALL, 0, folder)
        (kept,) = (folder / "cache").rglob("lengths-0-*/base.safetensors")
        written = kept.stat().st_mtime_ns
        prepare_lengths(SMALL, 0, folder)
        assert kept.stat().st_mtime_ns == written
    return subject_with_lengths(SMALL, 0, folder)


def test_the_rows_of_the_task_have_nothing_in_common(subject):
    chats = {row.messages[0].content for row in subject.chats()}
    prompts, held_out = ({row.prompt[0].content for row in rows} for rows in (subject.prompts(), subject.held_out()))
    assert (len(prompts), len(held_out)) == (64, 8)
    assert not prompts & held_out
    assert not chats & (prompts | held_out)


def test_the_base_was_fine_tuned_and_a_run_repeats(subject):
    untrained = tiny("0.1m", seed=0)
    assert subject.base().weights_hash() != untrained.weights_hash()
    ends = []
    for order in (3, 3, 4):
        policy = subject.base()
        steps = train_on_groups(policy, subject, GRPO(), Draws(8, 8, 2, 1e-3), order)
        assert [len(one.records) for one in steps] == [64, 64]
        ends.append(policy.weights_hash())
    assert ends[0] == ends[1]
    assert len({*ends, subject.base().weights_hash()}) == 3
