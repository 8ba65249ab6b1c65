import json
import math

import pytest
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM

from tests.evaluation.scripted import ScriptedModel
from trimpot.core.errors import UsageError
from trimpot.core.rows import Message
from trimpot.evaluation.formats.lm_eval_model import LmEvalModel, as_lm, identity_of, request_of
from trimpot.evaluation.language_model import Identity, Request
from trimpot.evaluation.runner import evaluate_task
from trimpot.evaluation.task import Decoding, Item, Task

IDENTITY = Identity("scripted", "w", "t", "c")


class ScriptedLM(LM):
    """An lm-eval model that is a rule: the shorter continuation is the likelier; it says what it was asked."""

    def __init__(self):
        super().__init__()
        self.asked = []

    def loglikelihood(self, requests):
        return [(-float(len(request.args[1])), len(request.args[1]) < 3) for request in requests]

    def loglikelihood_rolling(self, requests):
        return [(-2.0 * len(request.args[0]),) for request in requests]

    def generate_until(self, requests):
        self.asked += [request.args for request in requests]
        return [request.args[0].upper() for request in requests]


class Encoding:
    """A scripted LM with a token per letter and a chat template."""

    def tok_encode(self, text, add_special_tokens=None):
        return [ord(letter) for letter in text]

    def apply_chat_template(self, chat_history, add_generation_prompt=True):
        return "".join(f"<{turn['role']}>{turn['content']}" for turn in chat_history)


class EncodingLM(Encoding, ScriptedLM):
    pass


def instances(method, *arguments):
    return [Instance(method, {}, one, 0, ("t", n, 1)) for n, one in enumerate(arguments)]


def test_a_trimpot_model_answers_lm_eval():
    lm = as_lm(ScriptedModel(lambda prompt, sample: f"{prompt}{sample} STOP x"))
    assert isinstance(lm, LM)
    assert lm.loglikelihood(instances("loglikelihood", ("a", " bc"))) == [(-3.0, False)]
    assert lm.loglikelihood_rolling(instances("loglikelihood_rolling", ("abcd",))) == [-4.0]
    asked = instances("generate_until", ("a", {"until": ["STOP"], "max_gen_toks": 50}), ("b", {"until": "STOP"}))
    assert lm.generate_until(asked) == ["a0 ", "b0 "]


def test_repeats_of_one_request_are_its_draws():
    model = ScriptedModel(lambda prompt, sample: str(sample))
    first, second = instances("generate_until", ("a", {"temperature": 1.0, "do_sample": True}), ("b", {}))
    assert as_lm(model).generate_until([first, first, second, first]) == ["0", "1", "0", "2"]
    assert model.requests[0].temperature == 1.0


def test_a_conversation_that_lm_eval_renders_reaches_the_model_as_one():
    model = ScriptedModel()
    lm = as_lm(model)
    text = lm.apply_chat_template([{"role": "user", "content": "hi"}])
    lm.generate_until(instances("generate_until", (text, {})))
    lm.loglikelihood(instances("loglikelihood", (text, " a"), ("plain", " a")))
    talk = (Message("user", "hi"),)
    assert model.requests[0].prompt == talk
    assert [context for context, _ in model.pairs] == [talk, "plain"]
    with pytest.raises(UsageError, match="gen_prefix"):
        lm.apply_chat_template([], add_generation_prompt=False)


def test_what_lm_eval_asks_to_generate():
    assert request_of("a", {}) == Request("a", 256)
    assert request_of("a", {"until": "x", "max_new_tokens": 9, "max_tokens": 5}) == Request("a", 9, ("x",))
    cold = {"do_sample": False, "temperature": 0.7, "top_p": 0.9, "top_k": 5}
    assert request_of("a", cold, 3) == Request("a", 256, (), 0.0, 3)
    assert request_of("a", {"temperature": 0.7, "top_p": 1.0, "top_k": None}).temperature == 0.7
    with pytest.raises(UsageError, match="top_p"):
        request_of("a", {"temperature": 0.7, "top_p": 0.9})
    with pytest.raises(UsageError, match="num_beams"):
        request_of("a", {"num_beams": 4})


def test_a_trimpot_task_runs_on_an_lm_eval_model():
    model = LmEvalModel(ScriptedLM(), IDENTITY)
    choice = Task("c", "choice", (Item("a", (" xx", " y"), " y"),), "acc")
    (one,) = evaluate_task(model, choice, "r")
    assert (one.score, one.output) == (1.0, " y")
    rolling = Task("b", "rolling", (Item("abcd"),), "bits_per_byte")
    assert evaluate_task(model, rolling, "r")[0].score == pytest.approx(2 / math.log(2))
    generate = Task("g", "generate", (Item("ab", answer="AB"),), "exact", Decoding(max_tokens=7, stop=("\n",)))
    (said,) = evaluate_task(model, generate, "r")
    assert (said.score, said.output) == (1.0, "AB")
    options = {"until": ["\n"], "max_gen_toks": 7, "do_sample": False, "temperature": 0.0}
    assert model.lm.asked == [("ab", options)]


def test_tokens_are_counted_where_the_lm_shows_them_and_an_answer_as_long_as_allowed_is_unfinished():
    model = LmEvalModel(EncodingLM(), IDENTITY)
    assert model.prompt_ids("ab") == (97, 98)
    assert model.rendered((Message("user", "hi"),)) == "<user>hi"
    assert model.loglikelihood([("a", "bc")])[0].tokens == 2
    assert model.loglikelihood_rolling(["abc"])[0].tokens == 3
    short, long = model.generate_until([Request("ab", 5), Request("abcde", 5)])
    assert (short.tokens, short.finished) == (2, True)
    assert (long.tokens, long.finished) == (5, False)


def test_an_lm_without_tokens_or_template_says_so():
    model = LmEvalModel(ScriptedLM(), IDENTITY)
    assert model.prompt_ids("ab") == ()
    assert model.loglikelihood([("a", "bc")])[0].perplexity is None
    assert model.loglikelihood([]) == []
    with pytest.raises(UsageError, match="model scripted: has no chat template"):
        model.rendered((Message("user", "hi"),))
    with pytest.raises(UsageError, match="pair 0: has no continuation"):
        model.loglikelihood([("a", "")])


def test_an_lm_that_shows_no_weights_needs_a_statement_of_them():
    with pytest.raises(UsageError, match="nothing tells two checkpoints apart"):
        identity_of(ScriptedLM(), "m")
    assert identity_of(ScriptedLM(), "m", "a").key != identity_of(ScriptedLM(), "m", "b").key


def test_both_ways_round_give_the_same_model():
    inner = ScriptedModel(lambda prompt, sample: prompt[::-1])
    around = LmEvalModel(as_lm(inner), IDENTITY)
    pairs = [("a", " bc"), ("b", " d")]
    assert [one.logprob for one in around.loglikelihood(pairs)] == [one.logprob for one in inner.loglikelihood(pairs)]
    assert around.generate_until([Request("abc", 9)])[0].text == "cba"


CHOICE = """
task: colours
dataset_path: json
dataset_kwargs: {data_files: {test: DATA, train: DATA}}
test_split: test
fewshot_split: train
num_fewshot: 2
output_type: multiple_choice
doc_to_text: "Question: {{question}}\\nAnswer:"
doc_to_choice: "{{choices}}"
doc_to_target: "{{label}}"
metric_list:
  - metric: acc
  - metric: acc_norm
metadata: {version: 3.0}
"""
GENERATE = """
task: said
dataset_path: json
dataset_kwargs: {data_files: {test: DATA}}
test_split: test
output_type: generate_until
doc_to_text: "{{question}}"
doc_to_target: "{{choices[label]}}"
generation_kwargs: {until: ["e"], max_gen_toks: 6, do_sample: false}
metric_list:
  - metric: exact_match
    ignore_case: true
    regexes_to_ignore: [" +"]
"""
ROLLING = """
task: texts
dataset_path: json
dataset_kwargs: {data_files: {test: DATA}}
test_split: test
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{question}}"
metric_list:
  - metric: bits_per_byte
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    words = ["red", "green", "blue", "a kind of grey", "black"]
    rows = [
        {"question": f"What colour has number {n}?", "choices": words[n % 3 : n % 3 + 3], "label": n % 3, "kind": n % 2}
        for n in range(8)
    ]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, text in (("choice", CHOICE), ("generate", GENERATE), ("rolling", ROLLING)):
        (tmp_path / f"{name}.yaml").write_text(text.replace("DATA", str(tmp_path / "data.jsonl")))
    return tmp_path


NAMES = ("colours", "said", "texts")


@pytest.fixture
def runs(folder):
    """Every task by lm-eval on HFLM and on our model, by our runner on both, and lm-eval's log of the second."""
    from lm_eval.loggers import EvaluationTracker
    from lm_eval.models.huggingface import HFLM

    from trimpot.evaluation.formats.lm_eval_samples import read_lm_eval_samples
    from trimpot.evaluation.formats.lm_eval_task import read_lm_eval_task
    from trimpot.evaluation.local import LocalModel
    from trimpot.models import attention
    from trimpot.models.load import load

    policy = load("tiny-0.1m", device="cpu")
    stock, ours = HFLM(pretrained=policy.model, tokenizer=policy.tokenizer, batch_size=2), LocalModel(policy)
    peer = LmEvalModel(stock, identity_of(stock, "tiny"))
    assert peer.identity.weights == ours.identity.weights
    files = {"colours": "choice.yaml", "said": "generate.yaml", "texts": "rolling.yaml"}
    read = {name: read_lm_eval_task(folder / file, slices=["kind"]) for name, file in files.items()}
    policy.model.set_attn_implementation("sdpa")
    found = {"theirs": by_lm_eval(stock, folder), "peer": {n: evaluate_task(peer, read[n], "r") for n in NAMES}}
    policy.model.set_attn_implementation(attention.IMPLEMENTATION)
    found["ours"] = {name: evaluate_task(ours, read[name], "r") for name in NAMES}
    found["inside"] = by_lm_eval(as_lm(ours), folder, EvaluationTracker(output_path=str(folder / "logs")))
    logs = {path.name.split("_")[1]: path for path in (folder / "logs").rglob("samples_*.jsonl")}
    return {**found, "imported": {name: read_lm_eval_samples(logs[name]).outcomes for name in NAMES}}


def by_lm_eval(lm, folder, tracker=None):
    """lm-eval's own run: its samples by task; its files where there is a tracker."""
    import lm_eval
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=str(folder), include_defaults=False)
    how = {"task_manager": manager, "bootstrap_iters": 0, "evaluation_tracker": tracker, "log_samples": True}
    found = lm_eval.simple_evaluate(lm, tasks=list(NAMES), **how)
    if tracker is not None:
        tracker.save_results_aggregated(results={k: v for k, v in found.items() if k != "samples"}, samples=None)
        for name in NAMES:
            tracker.save_results_samples(task_name=name, samples=found["samples"][name])
    return found["samples"]


@pytest.mark.slow
def test_lm_evals_own_run_and_ours_agree_item_by_item(runs):
    theirs, inside, ours = runs["theirs"], runs["inside"], runs["ours"]
    assert len(theirs["colours"]) == 8
    for one, other in zip(theirs["colours"], inside["colours"], strict=True):
        assert one["doc"] == other["doc"]
        for (logprob, greedy), told in zip(one["filtered_resps"], other["filtered_resps"], strict=True):
            assert float(told[0]) == pytest.approx(logprob, abs=1e-4)
            assert str(told[1]) == str(greedy)
    assert {one.score for one in ours["colours"]} == {0.0, 1.0}
    assert [one.score for one in ours["colours"]] == [one["acc"] for one in theirs["colours"]]
    assert [one.output for one in ours["said"]] == [one["filtered_resps"][0] for one in theirs["said"]]
    assert [one.score for one in ours["said"]] == [one["exact_match"] for one in theirs["said"]]
    for one, (logprob, size) in zip(ours["texts"], [one["bits_per_byte"] for one in theirs["texts"]], strict=True):
        assert one.score == pytest.approx(-logprob / (size * math.log(2)), abs=1e-4)
    assert {one.slices["kind"] for one in ours["colours"]} == {"0", "1"}
    for name in NAMES:
        for ran, other in zip(ours[name], runs["peer"][name], strict=True):
            assert (ran.item, ran.output, ran.expected, ran.prompt) == (
                other.item,
                other.output,
                other.expected,
                other.prompt,
            )
            assert ran.score == pytest.approx(other.score, abs=1e-4)


@pytest.mark.slow
def test_the_log_that_lm_eval_writes_of_our_model_is_our_own_run(runs):
    for name in NAMES:
        for ran, log in zip(runs["ours"][name], runs["imported"][name], strict=True):
            assert (ran.item, ran.task, ran.prompt, ran.output) == (log.item, log.task, log.prompt, log.output)
            assert (ran.expected, ran.status, ran.better) == (log.expected, log.status, log.better)
            assert ran.score == pytest.approx(log.score, abs=1e-4)
            assert log.weights.endswith(ran.weights)
    for ran, log in zip(runs["ours"]["colours"], runs["imported"]["colours"], strict=True):
        assert ran.confidence == pytest.approx(log.confidence, abs=1e-4)
