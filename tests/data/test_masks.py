from __future__ import annotations

from itertools import groupby, pairwise

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trimpot.core.errors import UsageError
from trimpot.core.rows import NO_ORIGIN, ChatRow, FeedbackRow, Message, PreferencePair, PromptRow, StepsRow, TextRow
from trimpot.core.settings import check_settings
from trimpot.core.tensors import Streams, pack_one
from trimpot.data.marks import Marked
from trimpot.data.masks import ANSWER_MASKS, MASKS
from trimpot.data.prepare import MaskSettings, tokenise
from trimpot.data.template import ChatTemplate
from trimpot.objectives.supervised.sft import SupervisedFineTuning

NAMES = ["chatml", "llama3", "thinking", "opens_thinking", "no_generation_prompt", "no_end", "none"]
SYSTEM, USER, ANSWER = Message("system", "answer only."), Message("user", "12 + 7 ="), Message("assistant", "19")
TURNS = (SYSTEM, USER, ANSWER, Message("user", "Hello"), Message("assistant", "Hello there"), Message("user", "more"))


def chat_branch(template: ChatTemplate, row: ChatRow, mask: str):
    return template.chat(row, 10_000, mask).sample.branches[0]


def trained(template: ChatTemplate, row: ChatRow, mask: str) -> list[str]:
    branch = chat_branch(template, row, mask)
    runs = groupby(zip(branch.ids, branch.supervised, strict=True), lambda pair: pair[1])
    return [template.tokenizer.decode([token for token, _ in run]) for flag, run in runs if flag]


def test_every_mask_decoded(tokenizer_with):
    template = ChatTemplate(tokenizer_with("llama3"))
    later = "19<|eot|><|start|>user<|end|>\n\nHello<|eot|><|start|>assistant<|end|>\n\nHello there<|eot|>"
    assert trained(template, ChatRow(TURNS), "assistant") == ["19<|eot|>", "Hello there<|eot|>"]
    assert trained(template, ChatRow(TURNS), "last_turn") == ["Hello there<|eot|>"]
    assert trained(template, ChatRow(TURNS), "completion") == [later]
    (whole,) = trained(template, ChatRow(TURNS), "all")
    assert whole == template.tokenizer.decode(template.prompt_ids((SYSTEM, USER)))[len("<s>") :] + later


def test_completion_begins_where_the_first_answer_does_though_it_is_rewritten(tokenizer_with):
    template = ChatTemplate(tokenizer_with("thinking"))
    row = ChatRow(TURNS)
    assert trained(template, row, "assistant") == ["<think>\n\n</think>\n\nHello there<|im_end|>"]
    (completion,) = trained(template, row, "completion")
    assert completion.startswith("19<|im_end|>\n<|im_start|>user\nHello<|im_end|>")
    assert completion.endswith("</think>\n\nHello there<|im_end|>")


def test_completion_under_a_template_that_rewrites_the_prompt_is_refused(tokenizer_with):
    hides = (
        "{% for m in messages %}{% if m['role'] != 'system' or messages | length < 4 %}"
        "{{ '<|start|>' + m['role'] + '<|end|>' + m['content'] + '<|eot|>' }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|start|>assistant<|end|>' }}{% endif %}"
    )
    template = ChatTemplate(tokenizer_with(hides))
    row = ChatRow((*TURNS[:4], Message("user", "and"), Message("assistant", "yes")))
    assert trained(template, row, "last_turn") == ["yes<|eot|>"]
    with pytest.raises(UsageError, match="rewrites the prompt once more turns follow, so that mask: completion"):
        template.chat(row, 1000, "completion")


@pytest.mark.parametrize("name", NAMES)
def test_single_turn_completion_last_turn_and_assistant_are_one(tokenizer_with, name):
    template = ChatTemplate(tokenizer_with(name))
    row = ChatRow(TURNS[:3])
    one, two, three = (chat_branch(template, row, mask) for mask in ("assistant", "completion", "last_turn"))
    assert one == three
    streams = {name: values for name, values in one.streams.items() if name != "answer_N"}
    assert (one.ids, one.supervised, streams) == (two.ids, two.supervised, two.streams)


def test_streams_tell_answers_and_their_ends_from_the_rest(tokenizer_with):
    template = ChatTemplate(tokenizer_with("chatml"))
    branch = chat_branch(template, ChatRow(TURNS, weight=2.0), "all")
    assert branch.targets == len(branch.ids) - 1
    answers = chat_branch(template, ChatRow(TURNS), "assistant")
    assert sum(branch.streams["end_N"]) == sum(answers.streams["end_N"]) == 2
    assert set(answers.streams["answer_N"]) == {1.0}
    assert branch.streams["weight_N"] == (2.0,) * branch.targets


def test_answers_are_marked_under_masks_of_answers_only(tokenizer_with):
    """Under completion and all other roles' text is trained on by choice: prompt_leak must not see it."""
    template = ChatTemplate(tokenizer_with("chatml"))
    for mask in MASKS:
        batch = pack_one(tokenise([ChatRow(TURNS), TextRow("Hello there")], template, 1000, mask).samples)
        logprob_N = torch.zeros(len(batch.target_ids_N))
        out = SupervisedFineTuning()(Streams(batch.sequence_N, 2, logprob_N, **batch.streams))
        assert ("answer_N" in batch.streams) == ("prompt_tokens_share" in out.stats) == (mask in ANSWER_MASKS)
        if mask in ANSWER_MASKS:
            assert out.stats["prompt_tokens_share"].value == 0.0


def test_a_target_outside_an_answer_is_marked_under_a_mask_of_answers():
    marked = Marked()
    marked.add([1, 2, 3], supervised=True)
    marked.add([4, 5], supervised=True, answer=True, ends=True)
    branch, _ = marked.branch(10, NO_ORIGIN)
    assert marked.with_streams(branch, 1.0, "assistant").streams["answer_N"] == (0.0, 0.0, 1.0, 1.0)
    assert "answer_N" not in marked.with_streams(branch, 1.0, "completion").streams


def test_mask_is_a_setting_with_choices(tokenizer_with):
    assert MaskSettings().mask == "assistant"
    with pytest.raises(UsageError, match=r"mask: 'asistant' is not a choice. Did you mean 'assistant'\?"):
        check_settings(MaskSettings("asistant"))
    with pytest.raises(UsageError, match="mask: 'last' is not a choice"):
        tokenise([ChatRow(TURNS)], ChatTemplate(tokenizer_with("none")), 100, "last")
    template = ChatTemplate(tokenizer_with("chatml"))
    done = {mask: tokenise([ChatRow(TURNS)], template, 1000, mask).target_tokens for mask in MASKS}
    assert done["last_turn"] < done["assistant"] < done["completion"] < done["all"]


texts = st.text(alphabet="abAB 17+=\n.é", min_size=1, max_size=12).filter(str.strip)
dialogues = st.lists(st.tuples(texts, texts), min_size=1, max_size=3)
leads = st.lists(st.integers(400, 410), max_size=3).map(tuple)
FEW = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def chat_of(dialogue) -> ChatRow:
    roles = ("user", "assistant")
    return ChatRow(tuple(Message(role, text) for turn in dialogue for role, text in zip(roles, turn, strict=True)))


@pytest.mark.parametrize("name", NAMES)
@FEW
@given(dialogue=dialogues, lead=leads)
def test_masks_are_nested_on_the_same_ids_and_never_hold_lead_or_first_token(tokenizer_with, name, dialogue, lead):
    template, row = ChatTemplate(tokenizer_with(name), lead), chat_of(dialogue)
    branches = [chat_branch(template, row, mask) for mask in ("last_turn", "assistant", "completion", "all")]
    for smaller, larger in pairwise(branches):
        assert smaller.ids == larger.ids
        assert all(there for here, there in zip(smaller.supervised, larger.supervised, strict=True) if here)
    for branch in branches:
        assert branch.ids[: len(lead)] == lead
        assert not any(branch.supervised[: len(lead) + 1])
        assert branch.targets > 0
    assert all(branches[-1].supervised[len(lead) + 1 :])
    bare = chat_branch(ChatTemplate(tokenizer_with(name)), row, "all")
    assert (branches[-1].ids[len(lead) :], branches[-1].streams) == (bare.ids, bare.streams)


LEAD = (401, 402)
ROWS = [
    ChatRow(TURNS[:3]), TextRow("Hello there"), PreferencePair((USER,), (ANSWER,), (Message("assistant", "20"),)),
    FeedbackRow((USER,), (ANSWER,), True), StepsRow((USER,), ("12", "19"), (True, False)), PromptRow((USER,)),
]  # fmt: skip


@pytest.mark.parametrize("row", ROWS, ids=[type(row).__name__ for row in ROWS])
@pytest.mark.parametrize("name", ["chatml", "none"])
def test_lead_stands_before_every_kind_of_row_and_counts(tokenizer_with, name, row):
    tokenizer = tokenizer_with(name, adds_bos=True)
    (bare,) = tokenise([row], ChatTemplate(tokenizer), 1000).samples
    (led,) = tokenise([row], ChatTemplate(tokenizer, LEAD), 1000).samples
    assert led.targets == bare.targets
    if bare.prefix:
        assert (led.prefix, led.branches) == (LEAD + bare.prefix, bare.branches)
        assert ChatTemplate(tokenizer, LEAD).prompt_ids(row.prompt) == led.prefix
    else:
        assert led.branches[0].ids == LEAD + bare.branches[0].ids
        assert led.branches[0].streams == bare.branches[0].streams
    if not isinstance(row, PromptRow):
        longest = max(len(led.prefix) + len(branch.ids) for branch in led.branches)
        assert tokenise([row], ChatTemplate(tokenizer), longest - 1).truncated_tokens == 0
        assert tokenise([row], ChatTemplate(tokenizer, LEAD), longest - 1).truncated_tokens > 0
