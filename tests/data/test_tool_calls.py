from __future__ import annotations

import json
from itertools import groupby

import polars
import pytest

from trimpot.core.errors import UsageError
from trimpot.core.rows import ChatRow, Message, Origin, PreferencePair
from trimpot.data.calls import unwritten
from trimpot.data.load import load_rows
from trimpot.data.template import ChatTemplate

# As Hermes and Qwen write tools, calls and results.
TOOLS_CHATML = (
    "{% if tools %}{{ '<|im_start|>system\nTools:' }}{% for tool in tools %}{{ '\n' }}{{ tool | tojson }}{% endfor %}"
    "{{ '<|im_end|>\n' }}{% endif %}{% for m in messages %}{% if m.role == 'tool' %}"
    "{{ '<|im_start|>user\n<tool_response>\n' + m.content + '\n</tool_response><|im_end|>\n' }}{% else %}"
    "{{ '<|im_start|>' + m.role }}{% if m.content %}{{ '\n' + m.content }}{% endif %}"
    '{% if m.tool_calls %}{% for call in m.tool_calls %}{{ \'\n<tool_call>\n{"name": "\' + call.function.name '
    "+ '\", \"arguments\": ' }}{{ call.function.arguments | tojson }}{{ '}\n</tool_call>' }}{% endfor %}{% endif %}"
    "{{ '<|im_end|>\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# As Llama 3.1: a call is the whole answer and has an end of its own.
OWN_END = (
    "{{ bos_token }}{% if tools %}{{ tools | tojson }}{% endif %}{% for m in messages %}"
    "{{ '<|start|>' + m.role + '<|end|>\n\n' }}"
    "{% if m.tool_calls %}{% for call in m.tool_calls %}{{ {'name': call.function.name, 'parameters': "
    "call.function.arguments} | tojson }}{% endfor %}{{ '<|im_end|>' }}{% else %}{{ m.content + '<|eot|>' }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|start|>assistant<|end|>\n\n' }}{% endif %}"
)
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
ARGUMENTS = {"city": "São Paulo", "days": 3, "metric": True}
CALL = {"type": "function", "function": {"name": "weather", "arguments": ARGUMENTS}}
USER, CALLS = Message("user", "Hello"), Message("assistant", "", (CALL,))
RESULT, FINAL = Message("tool", '{"degrees": 21}', name="weather"), Message("assistant", "It is 21.")
TURNS = (USER, CALLS, RESULT, FINAL)
ORIGIN = Origin("rows.jsonl", 3)
WRITTEN = '{"city": "São Paulo", "days": 3, "metric": true}'


def runs(template: ChatTemplate, row: ChatRow) -> list[tuple[bool, str]]:
    branch = template.chat(row, 10_000).sample.branches[0]
    pairs = groupby(zip(branch.ids, branch.supervised, strict=True), lambda pair: pair[1])
    return [(flag, template.tokenizer.decode([token for token, _ in run])) for flag, run in pairs]


def test_calls_and_final_answer_are_trained_tools_and_results_are_not(tokenizer_with):
    found = runs(ChatTemplate(tokenizer_with(TOOLS_CHATML)), ChatRow(TURNS, tools=(TOOL,)))
    call = f'<tool_call>\n{{"name": "weather", "arguments": {WRITTEN}}}\n</tool_call><|im_end|>'
    assert found == [
        (False, f"<|im_start|>system\nTools:\n{json.dumps(TOOL)}<|im_end|>\n<|im_start|>user\nHello<|im_end|>\n"
                "<|im_start|>assistant\n"),
        (True, call),
        (False, '\n<|im_start|>user\n<tool_response>\n{"degrees": 21}\n</tool_response><|im_end|>\n'
                "<|im_start|>assistant\n"),
        (True, "It is 21.<|im_end|>"),
    ]  # fmt: skip


def test_answer_that_is_only_a_call_and_one_with_both(tokenizer_with):
    template = ChatTemplate(tokenizer_with(TOOLS_CHATML))
    assert runs(template, ChatRow((USER, CALLS)))[-1][1].startswith('<tool_call>\n{"name": "weather"')
    both = runs(template, ChatRow((USER, Message("assistant", "I look.", (CALL, CALL)))))[-1][1]
    assert both.startswith("I look.\n<tool_call>")
    assert both.count(WRITTEN) == 2


def test_call_with_an_end_of_its_own_learns_that_end(tokenizer_with):
    template = ChatTemplate(tokenizer_with(OWN_END))
    assert [text for flag, text in runs(template, ChatRow(TURNS, tools=(TOOL,))) if flag] == [
        f'{{"name": "weather", "parameters": {WRITTEN}}}<|im_end|>', "It is 21.<|eot|>",
    ]  # fmt: skip


@pytest.mark.parametrize("joined", ["+ call.function.arguments", "~ call.function.arguments"])
def test_template_that_can_only_join_strings_gets_arguments_as_json(tokenizer_with, joined):
    strings = TOOLS_CHATML.replace("' }}{{ call.function.arguments | tojson }}", f"' {joined} }}}}")
    assert strings != TOOLS_CHATML
    template = ChatTemplate(tokenizer_with(strings))
    assert runs(template, ChatRow(TURNS))[1][1].count(WRITTEN) == 1


@pytest.mark.parametrize("name", ["chatml", "llama3", "none"])
def test_template_that_drops_calls_is_refused(tokenizer_with, name):
    template = ChatTemplate(tokenizer_with(name))
    for messages in ((USER, CALLS), TURNS, (USER, Message("assistant", "I look at the weather.", (CALL,)))):
        with pytest.raises(UsageError, match=r"rows.jsonl:3: chat template: leaves out .* of a tool call") as caught:
            template.chat(ChatRow(messages, origin=ORIGIN), 1000)
        assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match="leaves out the row's tools"):
        template.chat(ChatRow((USER, FINAL), tools=(TOOL,)), 1000)


def test_template_that_drops_an_argument_or_a_result_is_refused(tokenizer_with):
    nameless = TOOLS_CHATML.replace("call.function.arguments |", "call.function.arguments.city |")
    with pytest.raises(UsageError, match="leaves out the argument 'city' to weather of a tool call"):
        ChatTemplate(tokenizer_with(nameless)).chat(ChatRow((USER, CALLS)), 1000)
    with pytest.raises(UsageError, match="leaves out tool turns"):
        ChatTemplate(tokenizer_with("no_generation_prompt")).chat(ChatRow((USER, RESULT, FINAL)), 1000)


def test_name_in_the_list_of_tools_is_no_written_call(tokenizer_with):
    lists_only = TOOLS_CHATML.replace("{% if m.tool_calls %}", "{% if false %}")
    bare = {"type": "function", "function": {"name": "weather", "arguments": {}}}
    with pytest.raises(UsageError, match="leaves out the function name 'weather' of a tool call"):
        ChatTemplate(tokenizer_with(lists_only)).chat(
            ChatRow((USER, Message("assistant", "I look.", (bare,))), tools=(TOOL,)), 1000
        )


def test_pair_whose_prompt_holds_a_call(tokenizer_with):
    template = ChatTemplate(tokenizer_with(TOOLS_CHATML))
    sample = template.pair(PreferencePair(TURNS[:3], (FINAL,), (Message("assistant", "No"),)), 1000).sample
    assert sample.prefix == template.prompt_ids(TURNS[:3])
    assert WRITTEN in template.tokenizer.decode(sample.prefix)
    with pytest.raises(UsageError, match="of a tool call"):
        ChatTemplate(tokenizer_with("chatml")).prompt_ids(TURNS[:3])


def test_ways_of_writing_an_argument():
    call = {"function": {"name": "f", "arguments": {"a": 'say "hi"', "b": [1, None, {"c": False}]}}}
    for text in ('f {"a": "say \\"hi\\"", "b": [1, null, {"c": false}]}', "f(a='say \"hi\"', b=[1, None, c=False])"):
        assert unwritten(call, text) is None
    assert unwritten(call, "g") == "the function name 'f'"
    assert unwritten(call, 'f a say "hi" b 1 null c') == "the argument False to f"


def turn(**keys: object) -> dict[str, object]:
    return {"role": "assistant", "content": None, **keys}


CALL_FORMS = {
    "object": turn(tool_calls=[{"type": "function", "function": {"name": "weather", "arguments": ARGUMENTS}}]),
    "string": turn(tool_calls=[{"function": {"name": "weather", "arguments": WRITTEN}}], content=""),
    "bare": turn(tool_calls=[{"name": "weather", "arguments": ARGUMENTS}]),
    "filled with nulls": turn(tool_calls=[{"function": {"name": "weather", "arguments": {**ARGUMENTS, "x": None}}}]),
}


@pytest.mark.parametrize("form", CALL_FORMS)
def test_calls_are_read_in_every_form(tmp_path, form):
    asks, says = {"role": "user", "content": "Hello"}, {"role": "assistant", "content": "It is 21."}
    result = {"role": "tool", "content": '{"degrees": 21}', "name": "weather"}
    record = {"messages": [asks, CALL_FORMS[form], result, says], "tools": [TOOL]}
    (tmp_path / "a.jsonl").write_text(json.dumps(record) + "\n")
    (row,) = load_rows(str(tmp_path / "a.jsonl"), "chat")
    assert (row.messages, row.tools) == (TURNS, (TOOL,))
    completion = {"prompt": "Hello", "completion": [CALL_FORMS[form], result, says], "tools": json.dumps([TOOL])}
    (tmp_path / "b.jsonl").write_text(json.dumps(completion) + "\n")
    assert load_rows(str(tmp_path / "b.jsonl"))[0].id == row.id == ChatRow(TURNS, tools=(TOOL,)).id


def test_calls_of_a_parquet_file(tmp_path):
    other = {"function": {"name": "time", "arguments": {"zone": "CET"}}}
    messages = [{"role": "user", "content": "Hello"}, turn(tool_calls=[CALL_FORMS["object"]["tool_calls"][0], other])]
    polars.DataFrame([{"messages": messages}]).write_parquet(tmp_path / "a.parquet")
    (row,) = load_rows(str(tmp_path / "a.parquet"))
    assert [call["function"]["arguments"] for call in row.messages[1].tool_calls] == [ARGUMENTS, {"zone": "CET"}]


BAD = {
    "a tool call without a function name": {"messages": [turn(tool_calls=[{"id": "1"}])]},
    "tool_calls is not a list": {"messages": [turn(tool_calls={"name": "f"})]},
    "the arguments of f are not an object": {"messages": [turn(tool_calls=[{"name": "f", "arguments": [1]}])]},
    "the arguments of f: malformed JSON at column 2": {
        "messages": [turn(tool_calls=[{"name": "f", "arguments": "{a"}])]
    },
    "tool calls in a user message": {"messages": [turn(role="user", tool_calls=[{"name": "f"}])]},
    "the content of the assistant message is NoneType": {"messages": [turn()]},
    "tools is not a list of functions": {"messages": [turn(content="a")], "tools": "{}"},
    "tools in a preference pair row": {"prompt": "q", "chosen": "a", "rejected": "b", "tools": [TOOL]},
}


@pytest.mark.parametrize("problem", BAD)
def test_bad_calls_are_named(tmp_path, problem):
    (tmp_path / "rows.jsonl").write_text(json.dumps(BAD[problem]) + "\n")
    with pytest.raises(UsageError, match=f"rows.jsonl:1: {problem}"):
        load_rows(str(tmp_path / "rows.jsonl"))


def test_chat_with_tools_is_no_prompt_row(tmp_path):
    record = {"messages": [{"role": "user", "content": "Hello"}, CALL_FORMS["object"]]}
    (tmp_path / "rows.jsonl").write_text(json.dumps(record) + "\n")
    with pytest.raises(UsageError, match="a chat row with tools where the stage needs a prompt row"):
        load_rows(str(tmp_path / "rows.jsonl"), "prompt")
