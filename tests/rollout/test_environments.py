"""Environments: what they reply, and that a conversation is trained on exactly the tokens it was sampled as."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimpot.core.errors import UsageError
from trimpot.core.rows import Message, PromptRow
from trimpot.core.samples import Draw
from trimpot.core.tensors import pack_one
from trimpot.data.template import ChatTemplate
from trimpot.models.policy import Policy
from trimpot.models.tiny import byte_tokenizer, tiny
from trimpot.objectives.policy_gradient.grpo import GRPO
from trimpot.rollout.environments import Calculator, Reply, Retry, calculate, find_environment, reply_ids
from trimpot.rollout.rewards import Rewards, Scored
from trimpot.rollout.sampling import SamplingSettings
from trimpot.rollout.source import RolloutSettings, RolloutSource, Sampling
from trimpot.rollout.trajectories import Play, Trajectory, Turn, sample_trajectories

ROWS = [PromptRow((Message("user", f"prompt {n}"),), "x") for n in range(3)]


def ending(**changes: Any) -> Policy:
    """A model of which a quarter of the vocabulary ends an answer, so that conversations go on."""
    policy = tiny(**changes)
    policy.model.generation_config.eos_token_id = list(range(64))
    return policy


class Counting:
    """Replies with the number of the turn, and pays it."""

    def begin(self, row: PromptRow) -> None:
        self.turn = 0

    def reply(self, text: str) -> Reply:
        self.turn += 1
        return Reply(f"turn {self.turn}", float(self.turn))


class Failing:
    """Raises on every other text."""

    def begin(self, row: PromptRow) -> None:
        """Nothing to keep."""

    def reply(self, text: str) -> Reply:
        if len(text) % 2:
            raise KeyError("lost")
        return Reply(None, 1.0)


def conversations(policy: Policy, environment: Any, turns: int = 4, limit: int = 8) -> list[list[Trajectory]]:
    template = ChatTemplate(policy.tokenizer)
    play = Play(environment, turns, template)
    prompts = [template.prompt(row) for row in ROWS]
    return sample_trajectories(policy, ROWS, prompts, 4, SamplingSettings(1.0, limit), 0, play)


def draw(policy: Policy, environment: str, turns: int) -> Draw:
    sampling = Sampling(ChatTemplate(policy.tokenizer), SamplingSettings(1.0, 8), 3)
    settings = RolloutSettings(group=4, environment=environment, turns=turns)
    return RolloutSource(policy, ROWS, sampling, settings, GRPO(), Rewards(None, {}, 5.0), {}, 0).draw(1, {})


def test_bug_07_multi_turn_tokens_in_are_tokens_out() -> None:
    """verl#3720, prime-rl#1334: the policy is trained on the tokens it sampled, after the tokens it read."""
    policy = ending()
    flat = [one for group in conversations(policy, Counting) for one in group]
    assert max(len(one.turns) for one in flat) == 4
    for one in flat:
        branch = one.branch()
        whole = list(one.prompt) + list(branch.ids)
        for before, after in zip(one.turns, one.turns[1:], strict=False):
            assert after.prompt[: len(before.prompt) + len(before.completion.ids)] == (
                *before.prompt,
                *before.completion.ids,
            )
        for turn in one.turns:
            assert whole[: len(turn.prompt)] == list(turn.prompt)
        supervised = [token for token, flag in zip(branch.ids, branch.supervised, strict=True) if flag]
        assert supervised == [token for turn in one.turns for token in turn.completion.ids]


def test_bug_07_a_conversation_rendered_anew_is_refused() -> None:
    policy = ending()
    one = next(one for group in conversations(policy, Counting) for one in group if len(one.turns) > 1)
    second = one.turns[1]
    changed = (*second.prompt[:5], second.prompt[5] + 1, *second.prompt[6:])
    one.turns[1] = Turn(changed, second.completion)
    with pytest.raises(RuntimeError, match="turn 2 was sampled after other tokens"):
        one.branch()


def test_the_samplers_log_probs_are_the_trainers_in_every_turn() -> None:
    policy = ending()
    done = draw(policy, "retry", 3)
    assert any(not all(branch.supervised) for sample in done.samples for branch in sample.branches)
    batch = pack_one(done.samples)
    difference = policy.scores(batch).logprob_N - batch.streams["sampler_logprob_N"]
    assert difference.abs().max() <= 1e-4
    turns = done.stats["environment/turns"].value
    assert turns is not None
    assert 1 < turns <= 3
    assert done == draw(ending(), "retry", 3)


TEMPLATES = {
    "chatml": None,
    "no end of turn": "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}",
    "trims": "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'].strip() + '<|im_end|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
    "opens an answer": "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}"
    "{% if m['role'] == 'assistant' and loop.last %}{{ '<think></think>' }}{% endif %}{{ m['content'] + '<|im_end|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
}


@pytest.mark.parametrize("name", TEMPLATES)
@given(answers=st.lists(st.text("ab ", min_size=1, max_size=6).map(lambda text: f"a{text}a"), min_size=1, max_size=3))
def test_prompts_of_later_turns_are_those_of_the_template(name: str, answers: Sequence[str]) -> None:
    """Where the template keeps an answer as it was written, joining gives what rendering the conversation gives."""
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = TEMPLATES[name] or tokenizer.chat_template
    template = ChatTemplate(tokenizer)
    messages = [Message("user", "go")]
    ids = list(template.prompt_ids(messages))
    for number, answer in enumerate(answers):
        ids += [*tokenizer(answer)["input_ids"], tokenizer.eos_token_id]
        ids += reply_ids(template, messages, f"reply {number}")
        messages += [Message("assistant", answer), Message("user", f"reply {number}")]
        assert tuple(ids) == template.prompt_ids(messages)


def test_thinking_that_a_template_takes_out_stays_as_it_was_sampled() -> None:
    """The ids of the next turn do not depend on the answer at all."""
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = (
        "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}"
        "{{ m['content'].split('</think>')[-1] + '<|im_end|>' }}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    )
    ids = reply_ids(ChatTemplate(tokenizer), [Message("user", "go")], "again")
    assert tokenizer.decode(ids) == "<|im_start|>user\nagain<|im_end|><|im_start|>assistant\n"


def test_a_template_that_hides_earlier_answers_is_refused() -> None:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = (
        "{% for m in messages %}{% if m['role'] != 'assistant' or loop.last %}"
        "{{ '<|im_start|>' + m['content'] + '<|im_end|>' }}"
        "{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>' }}{% endif %}"
    )
    with pytest.raises(UsageError, match="writes something else after an answer"):
        reply_ids(ChatTemplate(tokenizer), [Message("user", "go")], "again")


def test_an_unfinished_answer_ends_its_conversation() -> None:
    for group in conversations(ending(), Counting):
        for one in group:
            assert all(turn.completion.finished for turn in one.turns[:-1])
            assert one.finished == one.turns[-1].completion.finished
            assert len(one.turns) == 4 or not one.finished
            assert one.reward == len(one.turns)


def test_a_conversation_does_not_depend_on_the_others() -> None:
    class Quitting(Counting):
        """Ends every conversation but those whose first answer is long."""

        def reply(self, text: str) -> Reply:
            said = super().reply(text)
            return said if self.turn > 1 or len(text) > 3 else replace(said, text=None)

    whole, fewer = conversations(ending(), Counting), conversations(ending(), Quitting)
    pairs = [(a, b) for one, two in zip(whole, fewer, strict=True) for a, b in zip(one, two, strict=True)]
    assert {len(b.turns) == len(a.turns) for a, b in pairs} == {True, False}
    for a, b in pairs:
        for mine, other in zip(a.turns, b.turns, strict=False):
            assert (mine.prompt, mine.completion.ids) == (other.prompt, other.completion.ids)


def test_a_full_context_ends_a_conversation() -> None:
    policy = ending(max_position_embeddings=60)
    flat = [one for group in conversations(policy, Counting, turns=9) for one in group]
    assert any(one.out_of_room and not one.finished for one in flat)
    assert all(len(turn.prompt) + 8 <= 60 for one in flat for turn in one.turns)


def test_an_environment_that_fails_costs_its_own_conversation_alone() -> None:
    flat = [one for group in conversations(ending(), Failing) for one in group]
    assert {one.error for one in flat} == {None, "KeyError: 'lost'"}
    assert all((one.reward is None) == (one.error is not None) for one in flat)


@pytest.mark.parametrize("answer", ["return 1.0", "return Reply(None, float('nan'))", "return Reply(5, 1.0)"])
def test_a_reply_that_is_none_is_an_error(answer: str, tmp_path: Path) -> None:
    file = tmp_path / "worlds.py"
    file.write_text(
        "from trimpot.rollout.environments import Reply\n"
        f"class World:\n    def begin(self, row): pass\n    def reply(self, text): {answer}\n"
    )
    with pytest.raises(UsageError, match="none of 12 completions could be scored"):
        draw(ending(), f"{file}:World", 2)


def test_a_users_environment_is_found_and_pays(tmp_path: Path) -> None:
    file = tmp_path / "worlds.py"
    file.write_text(
        "from dataclasses import dataclass\nfrom trimpot.rollout.environments import Reply\n"
        "@dataclass\nclass World:\n    turn: int = 0\n    def begin(self, row): self.row = row\n"
        "    def reply(self, text):\n        self.turn += 1\n        return Reply('more', self.turn * 1.5)\n"
        "class Half:\n    def begin(self, row): pass\n"
    )
    done = draw(ending(), f"{file}:World", 2)
    assert {record["reward"] for record in done.records} == {1.5, 3.0}
    assert done.records[0]["rewards"] == {"environment": done.records[0]["reward"]}
    for name in ("missing", "Half"):
        with pytest.raises(UsageError, match=name):
            find_environment(f"{file}:{name}", 1.0)
    (tmp_path / "leaves.py").write_text("raise SystemExit(0)\n")
    for name, problem in {
        f"{tmp_path}/none.py:World": "does not exist",
        f"{tmp_path}:World": "is no Python file.*a class in it",
        f"{tmp_path}/leaves.py:World": "raised SystemExit",
        "retri": "Did you mean 'retry'",
    }.items():
        with pytest.raises(UsageError, match=problem):
            find_environment(name, 1.0)


def test_retry_goes_on_until_the_answer_is_right() -> None:
    made = find_environment("retry", 1.0)()
    made.begin(PromptRow((Message("user", "1+1?"),), "2"))
    assert made.reply("3") == Reply(Retry.TEXT)
    assert made.reply("2") == Reply(None)


class Broken:
    """A verifier that fails."""

    def score(self, *_: Any) -> list[list[Scored]]:
        return [[Scored(math.nan, "error", {}, {"own": "it hung"})]]


def test_retry_ends_when_the_verifier_fails() -> None:
    broken: Any = Broken()
    retry = Retry(broken)
    retry.begin(ROWS[0])
    with pytest.raises(RuntimeError, match="it hung"):
        retry.reply("3")


class LastLength:
    """Pays the number of characters; keeps what it was asked about."""

    judges = ()

    def __init__(self) -> None:
        self.texts: list[list[str]] = []

    def score(self, rows: Any, prompts: Any, groups: Any, texts: list[list[str]]) -> list[list[Scored]]:
        self.texts += texts
        return [[Scored(float(len(text)), "ok", {"length": float(len(text))}) for text in group] for group in texts]

    stats = staticmethod(Rewards.stats)


def test_the_stages_rewards_score_the_last_answer_alone() -> None:
    policy, rewards = ending(), LastLength()
    sampling = Sampling(ChatTemplate(policy.tokenizer), SamplingSettings(1.0, 8), 3)
    settings = RolloutSettings(group=4, environment="retry", turns=3)
    given: Any = rewards
    done = RolloutSource(policy, ROWS, sampling, settings, GRPO(), given, {}, 0).draw(1, {})
    asked = [text for group in rewards.texts for text in group]
    assert [record["reward"] for record in done.records] == [len(text) for text in asked]
    whole = [str(record["completion"]) for record in done.records]
    assert all(text.endswith(last) for text, last in zip(whole, asked, strict=True))
    assert any(text.count(Retry.TEXT) == 2 for text in whole)


@pytest.mark.parametrize(
    ("expression", "value"),
    [("2+3", 5), ("-2 * (3 - 5.5)", 5.0), ("7 // 2 + 7 % 2", 4), ("2 ** 10", 1024), ("1/4", 0.25), ("+3", 3)],
)
def test_the_calculator_computes(expression: str, value: float) -> None:
    assert calculate(expression) == value
    assert Calculator().reply(f"so <calc>1+1</calc> then <calc> {expression} </calc>") == Reply(str(value))


@pytest.mark.parametrize(
    "expression",
    ["", "1/0", "__import__('os')", "a", "(1).real", "9**9**9", "2**1000", "1e999", "'a'*9", "True+1", "(-1)**0.5",
     "1" * 201, "(" * 150, "0**-1", "1,2", "[1][0]", "1 if 1 else 2", "10**99 * 10**99", "\0", "1e308*10", "lambda: 1"],
)  # fmt: skip
def test_the_calculator_evaluates_nothing_else(expression: str) -> None:
    with pytest.raises(ValueError):
        calculate(expression)
    said = Calculator().reply(f"<calc>{expression}</calc>").text
    assert said is not None
    assert said.startswith("error: ")


@given(st.text("0123456789+-*/%(). ex'[]_a", max_size=60))
def test_the_calculator_gives_a_number_or_a_value_error(expression: str) -> None:
    try:
        value = calculate(expression)
    except ValueError:
        return
    assert type(value) in (int, float)
    assert abs(value) <= 1e100


def test_an_answer_without_a_call_ends_the_conversation() -> None:
    assert Calculator().reply("the answer is 5") == Reply(None)
