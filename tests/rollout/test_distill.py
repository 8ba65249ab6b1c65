"""On-policy distillation: which rows the student answers itself, and that its answers follow the trained prompt."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from trimpot.core.errors import UsageError
from trimpot.core.rows import ChatRow, Message, PromptRow
from trimpot.core.tensors import pack_one
from trimpot.data.template import ChatTemplate
from trimpot.models.policy import Policy
from trimpot.models.tiny import tiny
from trimpot.rollout.distill import DistillSettings, DistillSource
from trimpot.rollout.engine import generate
from trimpot.rollout.sampling import SamplingSettings
from trimpot.rollout.source import Sampling

LONG = ChatRow(
    (
        Message("user", "first"), Message("assistant", "one"),
        Message("user", "second"), Message("assistant", "two, at length"),
    ),
    weight=0.5,
)  # fmt: skip
ROWS = [LONG, *(ChatRow((Message("user", f"q{n}"), Message("assistant", f"answer {n}"))) for n in range(5))]
SAMPLING = SamplingSettings(1.0, 6)


def source(
    policy: Policy, share: float, rows: Sequence[ChatRow | PromptRow] = ROWS, seed: int = 0, max_length: int = 256
) -> DistillSource:
    sampling = Sampling(ChatTemplate(policy.tokenizer), SAMPLING, 4)
    return DistillSource(policy, rows, sampling, DistillSettings("teacher", share), max_length, seed)


def test_without_on_policy_rows_the_answers_are_the_rows_own() -> None:
    policy = tiny()
    template, rows = ChatTemplate(policy.tokenizer), {row.id: row for row in ROWS}
    draw = source(policy, 0.0).draw(1, {})
    assert all(sample == template.chat(rows[sample.row_id], 256).sample for sample in draw.samples)
    assert draw.stats["distill/on_policy_share"].value == 0.0
    assert draw.records == ()


def test_the_students_answers_follow_the_rows_prompts() -> None:
    policy = tiny()
    template, rows = ChatTemplate(policy.tokenizer), {row.id: row for row in ROWS}
    one = source(policy, 1.0)
    seen = set()
    for step in (1, 2):
        for sample in one.draw(step, {}).samples:
            row = rows[sample.row_id]
            seen.add(row.id)
            assert sample.prefix == template.prompt_ids(row.messages[:-1])
            (branch,) = sample.branches
            assert all(branch.supervised)
            assert branch.streams["weight_N"] == (row.weight,) * len(branch.ids)
            assert branch.streams.keys() == template.chat(row, 256).sample.branches[0].streams.keys()
    assert LONG.id in seen


def test_the_share_is_drawn_for_each_row() -> None:
    policy = tiny()
    one = source(policy, 0.5)
    draws = [one.draw(step, {}) for step in range(1, 13)]
    shares = [draw.stats["distill/on_policy_share"].value for draw in draws]
    assert len(set(shares)) > 2
    assert sum(len(draw.records) for draw in draws) == sum(bool(s.prefix) for draw in draws for s in draw.samples)
    assert 12 <= sum(len(draw.records) for draw in draws) <= 36
    mixed = next(draw for draw in draws if 0 < len(draw.records) < 4)
    batch = pack_one(mixed.samples)
    assert all(len(values) == len(batch.target_ids_N) for values in batch.streams.values())


def test_a_draw_depends_on_seed_step_and_weights_alone() -> None:
    one, other = source(tiny(), 0.5), source(tiny(), 0.5)
    first = one.draw(3, {})
    other.draw(1, {})
    assert other.draw(3, {}) == first
    assert one.draw(4, {}) != first
    assert source(tiny(), 0.5, seed=1).draw(3, {}) != first


def test_an_answer_does_not_depend_on_whether_other_rows_are_sampled() -> None:
    policy = tiny()
    some, every = source(policy, 0.5).draw(2, {}), source(policy, 1.0).draw(2, {})
    sampled = [place for place, sample in enumerate(some.samples) if sample.prefix]
    assert 0 < len(sampled) < 4
    assert all(some.samples[place].branches[0].ids == every.samples[place].branches[0].ids for place in sampled)


def test_prompt_rows_are_always_sampled() -> None:
    policy = tiny()
    rows = [PromptRow((Message("user", f"q{n}"),)) for n in range(4)]
    draw = source(policy, 0.0, rows).draw(1, {})
    assert draw.stats["distill/on_policy_share"].value == 1.0
    prompts = [sample.prefix for sample in draw.samples]
    assert set(prompts) == {ChatTemplate(policy.tokenizer).prompt(row) for row in rows}
    assert all(len(group[0].ids) <= 6 for group in generate(policy, prompts, 1, SAMPLING, 0))


def test_a_row_cut_in_its_last_answer_keeps_its_prompt() -> None:
    policy = tiny()
    template = ChatTemplate(policy.tokenizer)
    whole = template.prompt_ids(LONG.messages[:-1])
    for limit, prompt in ((len(whole) + 3, whole), (len(whole) - 3, template.prompt_ids(LONG.messages[:1]))):
        draw = source(policy, 1.0, [LONG], max_length=limit).draw(1, {})
        assert {sample.prefix for sample in draw.samples} == {prompt}


@pytest.mark.parametrize("mask", ["assistant", "completion", "last_turn", "all"])
def test_the_student_answers_the_same_prompt_under_every_mask(mask) -> None:
    policy = tiny()
    template = ChatTemplate(policy.tokenizer)
    sampling = Sampling(template, SAMPLING, 1)
    one = DistillSource(policy, [LONG], sampling, DistillSettings("teacher", 1.0), 256, 0, mask)
    (sample,) = one.draw(1, {}).samples
    assert sample.prefix == template.prompt_ids(LONG.messages[:-1])


def test_a_teacher_must_be_named() -> None:
    with pytest.raises(UsageError, match="teacher"):
        DistillSettings()
