import json

import pytest

from tests.evaluation.formats.test_lm_eval_model import CHOICE, GENERATE, ROLLING
from tests.evaluation.scripted import ScriptedModel
from trimpot.core.errors import UsageError
from trimpot.core.rows import PromptRow
from trimpot.evaluation.formats.exact_match import exact_match
from trimpot.evaluation.formats.lm_eval_task import read_lm_eval_task
from trimpot.evaluation.runner import evaluate_task
from trimpot.evaluation.task import Decoding

ROWS = [
    {"question": "sky", "choices": ["red", "blue"], "label": 1, "kind": "far"},
    {"question": "rose", "choices": ["red", "blue"], "label": 0, "kind": "near"},
    {"question": "sea", "choices": ["green", "blue"], "label": 1, "kind": "far"},
]


@pytest.fixture
def write(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))

    def write(text, rows=ROWS, **changes):
        data = tmp_path / "rows.jsonl"
        data.write_text("".join(json.dumps(row) + "\n" for row in rows))
        for old, new in changes.items():
            text += f"\n{old}: {new}\n"
        path = tmp_path / "task.yaml"
        path.write_text(text.replace("DATA", str(data)))
        return path

    return write


def test_a_multiple_choice_task_has_lm_evals_prompts_with_its_examples(write):
    task = read_lm_eval_task(write(CHOICE), slices=["kind"])
    assert (task.name, task.kind, task.scorer, task.version) == ("colours", "choice", "acc", "3.0")
    first = task.items[0]
    assert first.prompt.endswith("\n\nQuestion: sky\nAnswer:")
    assert first.prompt.count("Question:") == 3
    assert first.choices == (" red", " blue")
    assert [item.answer for item in task.items] == [" blue", " red", " blue"]
    assert [item.slices for item in task.items] == [{"kind": kind} for kind in ("far", "near", "far")]
    assert len({item.original for item in task.items}) == 3
    assert read_lm_eval_task(write(CHOICE), "acc_norm", limit=2).scorer == "acc_norm"
    outcomes = evaluate_task(ScriptedModel(), task, "r")
    assert [one.score for one in outcomes] == [0.0, 1.0, 1.0]


def test_a_generate_task_scores_as_lm_eval_does_also_what_was_cut(write):
    task = read_lm_eval_task(write(GENERATE))
    assert task.decoding == Decoding(6, ("e",), 0.0, 1, score_unfinished=True)
    answers = {"sky": "B l u", "rose": "RED", "sea": "bluxxxxxxx"}
    rows = [{**ROWS[0], "choices": ["red", "blu"]}, {**ROWS[1], "choices": ["r", "blue"]}, ROWS[2]]
    task = read_lm_eval_task(write(GENERATE, rows))
    outcomes = evaluate_task(ScriptedModel(lambda prompt, sample: answers[prompt].lower()), task, "r")
    assert [(one.output, one.score, one.status) for one in outcomes] == [
        ("b l u", 1.0, "ok"),
        ("r", 1.0, "ok"),
        ("bluxxx", 0.0, "ok"),
    ]


def test_a_rolling_task_is_its_texts(write):
    task = read_lm_eval_task(write(ROLLING))
    assert (task.kind, task.scorer) == ("rolling", "bits_per_byte")
    assert [item.prompt for item in task.items] == ["sky", "rose", "sea"]


@pytest.mark.parametrize(
    ("text", "changes", "words"),
    [
        (CHOICE, {"output_type": "loglikelihood"}, "output_type loglikelihood has no counterpart"),
        (CHOICE, {"doc_to_target": "'{{[0, 1]}}'", "num_fewshot": "0"}, "has several right answers"),
        (CHOICE, {"target_delimiter": "'\\n'", "metric_list": "[{metric: acc_norm}]"}, "acc_norm divides by lengths"),
        (CHOICE, {"metric_list": "[{metric: f1}]"}, "is scored by f1, which trimpot has not"),
        (GENERATE, {"filter_list": "[{name: a, filter: [{function: lowercase}]}]"}, "reads answers by filters"),
        (GENERATE, {"metric_list": "[{metric: bleu}]"}, "is scored by bleu"),
        (GENERATE, {"generation_kwargs": "{do_sample: true, temperature: 1.0, top_p: 0.5}"}, "hold top_p"),
        (CHOICE, {"doc_to_text": "!function steal.steal"}, "task.yaml names a Python function, which would run"),
        (CHOICE, {"unsafe_code": "true"}, "is marked as unsafe_code"),
        (CHOICE, {"include": "task.yaml"}, "includes itself"),
        (CHOICE, {"dataset_path": "no_such_builder_of_data"}, "lm-eval cannot read it"),
        ("a: [", {}, "lm-eval cannot read it"),
    ],
)
def test_what_a_trimpot_task_cannot_say_is_one_line(write, tmp_path, text, changes, words):
    (tmp_path / "steal.py").write_text("raise SystemExit('ran')")
    with pytest.raises(UsageError, match=words) as caught:
        read_lm_eval_task(write(text, **changes))
    assert "\n" not in str(caught.value)


def test_a_right_choice_that_is_not_there_is_one_line_where_lm_eval_counts_a_wrong_answer(write):
    rows = [ROWS[0], {**ROWS[1], "label": 5}]
    with pytest.raises(UsageError, match="document 1: names the right choice 5 of 2"):
        read_lm_eval_task(write(CHOICE, rows, num_fewshot="0"))


def test_functions_run_only_where_they_are_allowed(write, tmp_path):
    (tmp_path / "own.py").write_text("def text(doc):\n    return doc['question'] + '!'\n")
    path = write(CHOICE, doc_to_text="!function own.text")
    assert read_lm_eval_task(path, allow_code=True).items[0].prompt.endswith("sky!")
    (tmp_path / "other.yaml").write_text(path.read_text())
    (tmp_path / "task.yaml").write_text("include: other.yaml\ntask: more\n")
    with pytest.raises(UsageError, match=r"task.yaml: other.yaml names a Python function"):
        read_lm_eval_task(tmp_path / "task.yaml")


def test_what_is_not_there_is_one_line(write, tmp_path):
    with pytest.raises(UsageError, match="there is no such file"):
        read_lm_eval_task(tmp_path / "none.yaml")
    with pytest.raises(UsageError, match=r"has no metric 'bleu'. It has acc, acc_norm"):
        read_lm_eval_task(write(CHOICE), "bleu")
    with pytest.raises(UsageError, match=r"document 0: has no field 'sort'. It has choices, kind"):
        read_lm_eval_task(write(CHOICE), slices=["sort"])


@pytest.mark.parametrize("output", ["A b1!", "ab", "A.B", "a b", "12", ""])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"ignore_case": True},
        {"ignore_punctuation": True, "ignore_case": True},
        {"ignore_numbers": True},
        {"regexes_to_ignore": [" ", "[0-9]", "!"], "ignore_case": True},
    ],
)
def test_exact_match_is_lm_evals(output, options):
    from lm_eval.api.metrics import exact_match_hf_evaluate

    for answer in ("ab", "A b1!", "12", "a.b"):
        expected = exact_match_hf_evaluate([output], [answer], **options)["exact_match"]
        assert exact_match(output, PromptRow((), answer, "", options, {})) == expected
