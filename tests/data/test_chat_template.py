from __future__ import annotations

from itertools import groupby

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trimpot.core.errors import UsageError
from trimpot.core.rows import ChatRow, Message, Origin, PreferencePair, PromptRow, TextRow
from trimpot.data.template import ChatTemplate

USER, SYSTEM = Message("user", "12 + 7 ="), Message("system", "answer only.")
ANSWER = Message("assistant", "19")
TURNS = (SYSTEM, USER, ANSWER, Message("user", "Hello"), Message("assistant", "Hello there"))
ORIGIN = Origin("rows.jsonl", 3)
ALL = ["chatml", "llama3", "thinking", "opens_thinking", "no_generation_prompt", "no_end", "none"]


def spans(template: ChatTemplate, ids, supervised) -> list[tuple[bool, str]]:
    """Runs of equal mask, decoded."""
    return [
        (flag, template.tokenizer.decode([token for token, _ in run]))
        for flag, run in ((flag, list(run)) for flag, run in groupby(zip(ids, supervised, strict=True), lambda t: t[1]))
    ]


def chat_spans(template: ChatTemplate, *messages: Message) -> list[tuple[bool, str]]:
    branch = template.chat(ChatRow(messages), 1000).sample.branches[0]
    return spans(template, branch.ids, branch.supervised)


def test_mask_of_chatml_decoded_on_both_edges_over_two_turns(tokenizer_with):
    assert chat_spans(ChatTemplate(tokenizer_with("chatml")), *TURNS) == [
        (False, "<|im_start|>system\nanswer only.<|im_end|>\n<|im_start|>user\n12 + 7 =<|im_end|>\n"
                "<|im_start|>assistant\n"),
        (True, "19<|im_end|>"),
        (False, "\n<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"),
        (True, "Hello there<|im_end|>"),
    ]  # fmt: skip


def test_default_system_prompt_of_a_template_is_not_supervised(tokenizer_with):
    (masked, prompt), answer = chat_spans(ChatTemplate(tokenizer_with("chatml")), USER, ANSWER)
    assert (masked, answer) == (False, (True, "19<|im_end|>"))
    assert prompt.startswith("<|im_start|>system\nBe kind.")


def test_mask_of_llama3_trims_and_ends_with_its_end_of_turn(tokenizer_with):
    found = chat_spans(ChatTemplate(tokenizer_with("llama3")), USER, Message("assistant", " 19 \n"))
    assert found == [
        (False, "<s><|start|>user<|end|>\n\n12 + 7 =<|eot|><|start|>assistant<|end|>\n\n"),
        (True, "19<|eot|>"),
    ]


def test_without_a_chat_template_the_plain_one_with_end_of_sequence(tokenizer_with):
    assert chat_spans(ChatTemplate(tokenizer_with("none")), *TURNS) == [
        (False, "system: answer only.\nuser: 12 + 7 =\nassistant:"),
        (True, " 19</s>"),
        (False, "\nuser: Hello\nassistant:"),
        (True, " Hello there</s>"),
    ]


def test_template_without_end_of_turn_gets_the_end_of_sequence(tokenizer_with):
    found = chat_spans(ChatTemplate(tokenizer_with("no_end")), USER, ANSWER)
    assert found == [(False, "[user] 12 + 7 =\n[assistant]"), (True, " 19</s>")]


def test_template_without_generation_prompt_keeps_header_out_and_end_in(tokenizer_with):
    template = ChatTemplate(tokenizer_with("no_generation_prompt"))
    assert chat_spans(template, USER, ANSWER) == [(False, "<s>[INST] 12 + 7 = [/INST]"), (True, " 19 </s>")]
    header = "{% for m in messages %}{{ '<|start|>' + m['role'] + '\n' + m['content'] + '<|eot|>' }}{% endfor %}"
    assert chat_spans(ChatTemplate(tokenizer_with(header)), USER, ANSWER)[-1] == (True, "19<|eot|>")


def test_last_answer_keeps_its_thinking_and_earlier_ones_are_context(tokenizer_with):
    template = ChatTemplate(tokenizer_with("thinking"))
    done = template.chat(ChatRow(TURNS), 1000)
    branch = done.sample.branches[0]
    found = spans(template, branch.ids, branch.supervised)
    assert [flag for flag, _ in found] == [False, True]
    assert found[0][1].endswith("assistant\n19<|im_end|>\n<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n")
    assert found[1][1] == "<think>\n\n</think>\n\nHello there<|im_end|>"
    assert done.rewritten_turns == 1
    assert template.chat(ChatRow(TURNS[:3]), 1000).rewritten_turns == 0


def test_template_that_opens_thinking_trains_what_it_generates_from(tokenizer_with):
    template = ChatTemplate(tokenizer_with("opens_thinking"))
    assert chat_spans(template, USER, ANSWER) == [(False, "<s><|end|>12 + 7 =<|start|>"), (True, "19</s>")]
    assert template.tokenizer.decode(template.prompt_ids([USER])) == "<s><|end|>12 + 7 =<|start|>"


def test_template_that_drops_the_thinking_of_a_row_is_refused(tokenizer_with):
    row = ChatRow((USER, Message("assistant", "<think>carry</think>19")), origin=ORIGIN)
    with pytest.raises(UsageError, match=r"rows.jsonl:3: chat template: leaves out part of the answer"):
        ChatTemplate(tokenizer_with("opens_thinking")).chat(row, 1000)


@pytest.mark.parametrize("name", ALL)
def test_ids_before_every_trained_answer_are_the_ids_generated_from(tokenizer_with, name):
    template = ChatTemplate(tokenizer_with(name))
    done = template.chat(ChatRow(TURNS), 1000)
    branch = done.sample.branches[0]
    starts = [i for i, flag in enumerate(branch.supervised) if flag and not branch.supervised[i - 1]]
    answers = [i for i, message in enumerate(TURNS) if message.role == "assistant"]
    assert len(starts) == len(answers) - done.rewritten_turns
    for start, answer in zip(reversed(starts), reversed(answers), strict=False):
        assert branch.ids[:start] == template.prompt_ids(TURNS[:answer])


def test_prompt_ids_are_the_templates_own_generation_prompt(tokenizer_with):
    for name in ("chatml", "llama3", "thinking"):
        tokenizer = tokenizer_with(name)
        messages = [SYSTEM.as_dict(), USER.as_dict()]
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        expected = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert list(ChatTemplate(tokenizer).prompt_ids((SYSTEM, USER))) == expected


@pytest.mark.parametrize("name", ALL)
def test_bug_03_end_of_sequence_is_learned(tokenizer_with, name):
    template = ChatTemplate(tokenizer_with(name, pad="</s>"))
    assert template.tokenizer.pad_token_id == template.tokenizer.eos_token_id
    branch = template.chat(ChatRow(TURNS), 1000).sample.branches[0]
    assert branch.ids[-1] in template.stop_ids
    assert branch.supervised[-1]
    targets = [token for token, flag in zip(branch.ids, branch.supervised, strict=True) if flag]
    ends = [token for token, end in zip(targets, branch.streams["end_N"], strict=True) if end]
    answers = sum(flag for flag, _ in spans(template, branch.ids, branch.supervised))
    assert ends == [branch.ids[-1]] * answers


def test_answer_that_would_merge_with_the_header_keeps_the_generated_prefix(tokenizer_with):
    template = ChatTemplate(tokenizer_with("chatml"))
    # "assistant\n" and "\n" + text would merge into other tokens if they were tokenised as one text.
    branch = template.chat(ChatRow((USER, Message("assistant", "\nHello"))), 1000).sample.branches[0]
    prompt = template.prompt_ids([USER])
    assert branch.ids[: len(prompt)] == prompt
    assert spans(template, branch.ids, branch.supervised)[-1] == (True, "\nHello<|im_end|>")


texts = st.text(alphabet="abAB 17+=\n.é", min_size=1, max_size=12).filter(str.strip)
dialogues = st.lists(st.tuples(texts, texts), min_size=1, max_size=3)


@pytest.mark.parametrize("name", ALL)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(dialogue=dialogues)
def test_supervised_text_is_the_answers_and_their_ends_only(tokenizer_with, name, dialogue):
    template = ChatTemplate(tokenizer_with(name))
    messages = tuple(Message(role, text) for pair in dialogue for role, text in zip(("user", "assistant"), pair))  # noqa: B905
    done = template.chat(ChatRow(messages), 10_000)
    branch = done.sample.branches[0]
    trained = [text for flag, text in spans(template, branch.ids, branch.supervised) if flag]
    end = template.tokenizer.decode([template.stop_ids[0]])
    answers = [answer for _, answer in dialogue][-len(trained) :]
    assert len(trained) == len(dialogue) - done.rewritten_turns
    for text, answer in zip(trained, answers, strict=True):
        assert text.endswith(end)
        assert text.removesuffix(end).removeprefix("<think>\n\n</think>\n\n").strip() == answer.strip()


def test_truncation_cuts_on_the_right_and_counts(tokenizer_with):
    template = ChatTemplate(tokenizer_with("chatml"))
    whole = template.chat(ChatRow((USER, ANSWER)), 1000).sample.branches[0]
    cut = template.chat(ChatRow((USER, ANSWER)), len(whole.ids) - 1)
    assert (cut.truncated_tokens, cut.sample.branches[0].ids) == (1, whole.ids[:-1])


def test_bug_01_everything_masked(tokenizer_with):
    template = ChatTemplate(tokenizer_with("chatml"))
    prompt = template.prompt_ids([USER])
    with pytest.raises(UsageError, match=r"rows.jsonl:3: no supervised token .* Raise max_length to \d+"):
        template.chat(ChatRow((USER, ANSWER), origin=ORIGIN), len(prompt))
    assert template.chat(ChatRow((USER, ANSWER)), len(prompt) + 1).sample.targets == 1


# The answer, the token it begins with, and what ends it.
EDGES = {
    "smollm2": ("19", "19<|im_end|>"),
    "llama3": ("19", "19<|eot|>"),
    "no_generation_prompt": (" 19", " 19 </s>"),
    "none": (" 19", " 19</s>"),
}


@pytest.mark.parametrize("name", EDGES)
def test_bug_02_mask_boundary(tokenizer_with, name):
    template = ChatTemplate(tokenizer_with(name))
    first_answer, trained = EDGES[name]
    branch = template.chat(ChatRow((SYSTEM, USER, ANSWER)), 1000).sample.branches[0]
    targets = [place for place, flag in enumerate(branch.supervised) if flag]
    assert targets == list(range(targets[0], len(branch.ids)))
    assert first_answer.startswith(template.tokenizer.decode([branch.ids[targets[0]]]))
    assert branch.ids[targets[-1]] == template.stop_ids[0]
    assert template.tokenizer.decode(branch.ids[targets[0] :]) == trained
    assert branch.ids[: targets[0]] == template.prompt_ids((SYSTEM, USER))


@pytest.mark.parametrize("name", ALL)
def test_bug_15_template_without_generation_markers(tokenizer_with, name):
    tokenizer = tokenizer_with(name)
    template = ChatTemplate(tokenizer)
    assert "{% generation %}" not in template.renderer.template
    stock = tokenizer.apply_chat_template(
        [USER.as_dict(), ANSWER.as_dict()], chat_template=template.renderer.template,
        return_assistant_tokens_mask=True, return_dict=True,
    )  # fmt: skip
    assert not any(stock["assistant_masks"])
    assert template.chat(ChatRow((USER, ANSWER)), 1000).sample.targets > 0


def test_mask_is_that_of_generation_markers_where_a_template_has_them(tokenizer_with):
    marked = (
        "{% for m in messages %}{{ '<|start|>' + m['role'] + '<|end|>' }}{% if m['role'] == 'assistant' %}"
        "{% generation %}{{ m['content'] + '<|eot|>' }}{% endgeneration %}{% else %}{{ m['content'] + '<|eot|>' }}"
        "{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|start|>assistant<|end|>' }}{% endif %}"
    )
    tokenizer = tokenizer_with(marked)
    stock = tokenizer.apply_chat_template(
        [turn.as_dict() for turn in TURNS], return_assistant_tokens_mask=True, return_dict=True
    )
    branch = ChatTemplate(tokenizer).chat(ChatRow(TURNS), 1000).sample.branches[0]
    assert list(branch.ids) == stock["input_ids"]
    assert [int(flag) for flag in branch.supervised] == stock["assistant_masks"]


def test_row_without_assistant_turn_is_refused(tokenizer_with):
    with pytest.raises(UsageError, match=r"rows.jsonl:3: messages: no assistant turn"):
        ChatTemplate(tokenizer_with("chatml")).chat(ChatRow((USER,), origin=ORIGIN), 100)


def test_pair_shares_its_prompt_and_supervises_both_answers(tokenizer_with):
    template = ChatTemplate(tokenizer_with("chatml"))
    done = template.pair(PreferencePair((USER,), (ANSWER,), (Message("assistant", "I think 20"),), margin=2.0), 1000)
    chosen, rejected = done.sample.branches
    assert done.sample.prefix == template.prompt_ids([USER])
    assert spans(template, chosen.ids, chosen.supervised) == [(True, "19<|im_end|>")]
    assert spans(template, rejected.ids, rejected.supervised) == [(True, "I think 20<|im_end|>")]
    assert chosen.streams == rejected.streams == {"margin_S": 2.0}


def test_pair_with_longer_conversations_masks_the_users_turns(tokenizer_with):
    template = ChatTemplate(tokenizer_with("llama3"))
    chosen = (ANSWER, Message("user", "Hello"), Message("assistant", "Yes"))
    done = template.pair(PreferencePair((USER,), chosen, (Message("assistant", "20"),)), 1000)
    assert spans(template, done.sample.branches[0].ids, done.sample.branches[0].supervised) == [
        (True, "19<|eot|>"), (False, "<|start|>user<|end|>\n\nHello<|eot|><|start|>assistant<|end|>\n\n"),
        (True, "Yes<|eot|>"),
    ]  # fmt: skip


def test_pair_identical_after_truncation_is_refused(tokenizer_with):
    template = ChatTemplate(tokenizer_with("chatml"))
    sides = [(Message("assistant", "Hello there " + end),) for end in ("you", "him")]
    row = PreferencePair((USER,), *sides, origin=ORIGIN)
    with pytest.raises(UsageError, match=r"rows.jsonl:3: chosen and rejected are the same within"):
        template.pair(row, len(template.prompt_ids([USER])) + 2)
    with pytest.raises(UsageError, match=r"rows.jsonl:3: no supervised token"):
        template.pair(row, 3)
    assert template.pair(row, 1000).truncated_tokens == 0


def test_pair_in_a_thinking_template_after_an_earlier_answer(tokenizer_with):
    template = ChatTemplate(tokenizer_with("thinking"))
    done = template.pair(PreferencePair(TURNS[:4], (TURNS[4],), (Message("assistant", "No"),)), 1000)
    assert done.rewritten_turns == 0  # the earlier answer is part of the prompt, and no target anyway
    assert done.sample.prefix == template.prompt_ids(TURNS[:4])


def test_text_supervises_all_but_the_first_token(tokenizer_with):
    template = ChatTemplate(tokenizer_with("none"))
    branch = template.text(TextRow("Hello there", weight=0.5), 1000).sample.branches[0]
    assert template.tokenizer.decode(branch.ids) == "Hello there</s>"
    assert branch.supervised == (False,) + (True,) * (len(branch.ids) - 1)
    targets = len(branch.ids) - 1
    assert branch.streams == {
        "weight_N": (0.5,) * targets, "answer_N": (1.0,) * targets, "end_N": (0.0,) * (targets - 1) + (1.0,),
    }  # fmt: skip
    with pytest.raises(UsageError, match="no supervised token"):
        template.text(TextRow("Hello there"), 1)


def test_beginning_of_sequence_stands_there_once(tokenizer_with):
    tokenizer = tokenizer_with("llama3", adds_bos=True)
    ids = ChatTemplate(tokenizer).prompt_ids([USER])
    assert ids.count(tokenizer.bos_token_id) == 1
    plain = ChatTemplate(tokenizer_with("none", adds_bos=True))
    assert plain.prompt_ids([USER])[0] == plain.text(TextRow("Hello"), 10).sample.branches[0].ids[0]
    assert plain.prompt_ids([USER]).count(tokenizer.bos_token_id) == 1
    doubled = ChatTemplate(tokenizer_with("{{ bos_token }}{{ bos_token }}" + tokenizer_with("chatml").chat_template))
    with pytest.raises(UsageError, match="two beginning-of-sequence tokens"):
        doubled.prompt(PromptRow((USER,), origin=ORIGIN))


def test_bad_templates_say_what_is_wrong(tokenizer_with):
    silent = "{% for m in messages %}{% if m['role'] == 'user' %}{{ m['content'] }}{% endif %}{% endfor %}"
    with pytest.raises(UsageError, match="does not write an assistant turn's content"):
        ChatTemplate(tokenizer_with(silent)).prompt_ids([USER])
    rewriting = "{{ messages | length }}{% for m in messages %}{{ m['content'] }}{% endfor %}"
    with pytest.raises(UsageError, match="rewrites the prompt"):
        ChatTemplate(tokenizer_with(rewriting)).prompt_ids([USER])
    refusing = "{{ raise_exception('roles must alternate') }}"
    with pytest.raises(UsageError, match=r"rows.jsonl:3: chat template: cannot render user: roles must alternate"):
        ChatTemplate(tokenizer_with(refusing)).prompt(PromptRow((USER,), origin=ORIGIN))
    with pytest.raises(UsageError, match="neither a chat template nor an end-of-sequence token"):
        ChatTemplate(tokenizer_with("none", eos=None)).prompt_ids([USER])


def test_bug_08_template_hash(tokenizer_with):
    assert ChatTemplate(tokenizer_with("chatml")).hash == ChatTemplate(tokenizer_with("chatml", adds_bos=True)).hash
    others = {ChatTemplate(tokenizer_with(name)).hash for name in ALL}
    others.add(ChatTemplate(tokenizer_with("chatml", eos="<|im_end|>")).hash)
    assert len(others) == len(ALL) + 1
