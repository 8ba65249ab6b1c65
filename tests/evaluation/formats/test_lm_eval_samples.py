"""Logs constructed by hand from lm-eval 0.4.13 (loggers/evaluation_tracker.py, evaluator.py); real ones in the slow
test of test_lm_eval_model.py."""

import json
import math

import pytest

from trimpot.core.errors import UsageError
from trimpot.evaluation.formats.detect import read_log
from trimpot.evaluation.formats.lm_eval_samples import read_lm_eval_samples

NAME = "samples_sums_2026-01-01T10-00-00.123456.jsonl"


def arguments(*rows):
    return {f"gen_args_{n}": {f"arg_{m}": text for m, text in enumerate(row)} for n, row in enumerate(rows)}


def choice(number=0, values=(-2.0, -1.0), target="1", **more):
    """A multiple_choice sample: log-likelihoods stand there as strings."""
    told = [[str(value), "False"] for value in values]
    return {
        "doc_id": number,
        "doc": {"q": f"{number}?", "topic": "sum"},
        "target": target,
        "arguments": arguments((f"{number}?", " x"), (f"{number}?", " y")),
        "resps": [[one] for one in told],
        "filtered_resps": told,
        "filter": "none",
        "metrics": ["acc", "acc_norm"],
        "doc_hash": f"hash {number}",
        "prompt_hash": "p",
        "target_hash": "t",
        "acc": 1.0,
        "acc_norm": 0.0,
        **more,
    }


def generation(number=0, answer="4", target="4", **more):
    asked = arguments((f"{number}?", {"until": ["\n"], "max_gen_toks": 5}))
    told = {"arguments": asked, "resps": [[answer]], "filtered_resps": [answer], "metrics": ["exact_match"]}
    return {**choice(number, target=target), **told, "exact_match": 1.0, **more}


def write(tmp_path, *samples, name=NAME):
    path = tmp_path / name
    path.write_text("".join(json.dumps(one) + "\n" for one in samples))
    return path


def test_a_choice_is_the_likeliest_with_its_probability(tmp_path):
    path = write(tmp_path, choice(0), choice(1, (-1.0, -2.0), acc=0.0))
    found = read_lm_eval_samples(path, slices=["topic"])
    first, second = found.outcomes
    assert (first.task, first.prompt, first.expected, first.output) == ("sums", "0?", " y", " y")
    assert (first.score, first.status, second.score, second.output) == (1.0, "ok", 0.0, " x")
    assert first.confidence == pytest.approx(1 / (1 + math.exp(-1)))
    assert first.slices == {"topic": "sum"}
    assert first.item != second.item
    assert found.notes == (f"{path}: acc_norm was not imported",)


def test_another_metric_can_be_asked_for(tmp_path):
    path = write(tmp_path, choice())
    assert read_lm_eval_samples(path, "acc_norm").outcomes[0].score == 0.0
    with pytest.raises(UsageError, match=r"jsonl:1: has no metric 'f1'. It has: acc, acc_norm"):
        read_lm_eval_samples(path, "f1")


def test_two_models_answers_to_one_document_are_one_item_even_under_other_templates(tmp_path):
    first = read_lm_eval_samples(write(tmp_path, choice())).outcomes[0]
    chat = choice(arguments=arguments(("<user>0?", "x"), ("<user>0?", "y")))
    second = read_lm_eval_samples(write(tmp_path, chat)).outcomes[0]
    assert first.item == second.item


def test_a_generated_answer_and_one_in_which_the_filter_found_nothing(tmp_path):
    path = write(tmp_path, generation(0), generation(1, "[invalid]", exact_match=0.0))
    first, second = read_lm_eval_samples(path).outcomes
    assert (first.output, first.expected, first.score, first.status) == ("4", "4", 1.0, "ok")
    assert (second.score, second.status) == (0.0, "parse_failed")
    assert first.confidence is None


def test_every_filter_is_a_task_of_its_own(tmp_path):
    samples = [generation(0, filter="strict"), generation(0, filter="loose")]
    found = read_lm_eval_samples(write(tmp_path, *samples)).outcomes
    assert [one.task for one in found] == ["sums/strict", "sums/loose"]
    assert found[0].item == found[1].item


def test_bits_per_byte_are_of_the_item_and_better_when_lower(tmp_path):
    told = {"arguments": arguments(("abcd",)), "metrics": ["word_perplexity", "bits_per_byte"]}
    one = choice(**told, filtered_resps=["-8.0"], word_perplexity=[-8.0, 1], bits_per_byte=[-8.0, 4])
    path = write(tmp_path, one)
    found = read_lm_eval_samples(path)
    # 8 / (4 · ln 2)
    assert found.outcomes[0].score == pytest.approx(2 / math.log(2))
    assert (found.outcomes[0].better, found.outcomes[0].output) == ("lower", "")
    assert found.notes == (f"{path}: word_perplexity was not imported",)
    with pytest.raises(UsageError, match=r"word_perplexity is not one number for an item. Of use: bits_per_byte"):
        read_lm_eval_samples(path, "word_perplexity")


def test_a_metric_that_is_no_number_is_unscored(tmp_path):
    (one,) = read_lm_eval_samples(write(tmp_path, generation(exact_match=math.nan))).outcomes
    assert (one.score, one.status) == (None, "unscored")


def test_choices_asked_again_without_context_are_left_out(tmp_path):
    rows = [("0?", " x"), ("0?", " y"), ("", " x"), ("", " y")]
    values = [["-3.0", "False"], ["-1.0", "False"], ["0.0", "False"], ["-9.0", "False"]]
    (one,) = read_lm_eval_samples(write(tmp_path, choice(arguments=arguments(*rows), filtered_resps=values))).outcomes
    assert one.output == " y"
    assert one.confidence == pytest.approx(1 / (1 + math.exp(-2)))


def test_contexts_are_the_choices_where_the_continuation_is_one(tmp_path):
    rows = [("Ann was", " late"), ("Bob was", " late")]
    (one,) = read_lm_eval_samples(write(tmp_path, choice(arguments=arguments(*rows), target="late"))).outcomes
    assert (one.output, one.expected) == ("Bob was", "late")


def test_more_than_ten_choices_stay_in_their_order(tmp_path):
    rows = [("q", f" {n}") for n in range(12)]
    values = [[str(-float(n != 2)), "False"] for n in range(12)]
    one = choice(arguments=arguments(*rows), filtered_resps=values, target="11")
    (found,) = read_lm_eval_samples(write(tmp_path, one)).outcomes
    assert (found.output, found.expected) == (" 2", " 11")


def test_the_results_beside_a_log_say_which_model_and_which_way_is_better(tmp_path):
    results = {
        "model_name": "org/model",
        "config": {"model": "hf", "model_args": "pretrained=org/model", "model_sha": "abc"},
        "higher_is_better": {"sums": {"acc": False, "acc_norm": None}},
    }
    path = write(tmp_path, choice())
    alone = read_lm_eval_samples(path).outcomes[0]
    (tmp_path / "results_2026-01-01T10-00-00.123456.json").write_text(json.dumps(results))
    told = read_lm_eval_samples(path).outcomes[0]
    assert (told.run, told.weights, told.better) == ("org/model", "hf pretrained=org/model abc", "lower")
    assert alone.weights.startswith("unknown, of ")
    assert alone.better == "higher"


def test_logs_without_hash_and_metric_names_are_read(tmp_path):
    old = choice()
    for key in ("doc_hash", "metrics", "filter", "prompt_hash", "target_hash"):
        del old[key]
    (one,) = read_lm_eval_samples(write(tmp_path, old)).outcomes
    assert one.score == 1.0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"doc_id": None}, None),
        ({"arguments": {}}, ":1: arguments hold no prompt"),
        ({"arguments": 5}, ":1: filtered_resps or arguments are no list"),
        ({"filtered_resps": [["-1.0", "False"]]}, ":1: has 1 answers to 2 requests"),
        ({"filtered_resps": ["a", "b"]}, ":1: filtered_resps hold no log-likelihoods"),
        ({"metrics": ["f1"], "f1": [1, 0]}, ":1: has no metric that is a number"),
        ({"metrics": ["bits_per_byte"], "bits_per_byte": [1, 0]}, r":1: bits_per_byte is not"),
        ({"arguments": {"gen_args_0": {"arg_0": 5}}}, ":1: arguments hold no prompt"),
    ],
)
def test_a_bad_sample_is_one_line_that_names_file_and_line(tmp_path, change, words):
    path = write(tmp_path, {**choice(), **change})
    if words is None:
        assert read_lm_eval_samples(path).outcomes
        return
    with pytest.raises(UsageError, match=words) as caught:
        read_lm_eval_samples(path)
    assert str(caught.value).startswith(f"{path}:1")
    assert "\n" not in str(caught.value)


def test_a_document_that_stands_there_twice_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"jsonl:3: document 0 stands in line 1 too. lm-eval appends"):
        read_lm_eval_samples(write(tmp_path, choice(0), choice(1), choice(0)))


def test_a_line_that_is_cut_is_one_line_and_nothing_is_imported(tmp_path):
    path = write(tmp_path, choice(0), choice(1))
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(UsageError, match=r"jsonl:2: is not readable JSON"):
        read_lm_eval_samples(path)
    path.write_text("[" * 100_000)
    with pytest.raises(UsageError, match=r"is not readable JSON|is no log"):
        read_log(path)


def test_an_empty_file_is_one_line(tmp_path):
    path = write(tmp_path)
    with pytest.raises(UsageError, match="holds no samples"):
        read_lm_eval_samples(path)


def test_a_missing_key_is_named(tmp_path):
    one = choice()
    del one["arguments"]
    with pytest.raises(UsageError, match=r"jsonl:1: has no arguments"):
        read_lm_eval_samples(write(tmp_path, one))
