"""Rewards: weights, judges, a worker process for users' functions, and a score that is always its own completion's."""

from __future__ import annotations

import math
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trimpot.core.errors import UsageError
from trimpot.core.rows import Message, Origin, PromptRow
from trimpot.core.samples import Branch, Sample
from trimpot.core.tensors import pack_one
from trimpot.models.reward import RewardModel, from_policy
from trimpot.models.tiny import tiny
from trimpot.rollout.engine import Completion
from trimpot.rollout.rewards import RewardModelJudge, Rewards, Scored
from trimpot.rollout.workers import Worker

FUNCTIONS = """
import os, sys, time
sys.stdout.write("noise while it is imported\\n")

def length(output, row):
    return len(output)

def answer(output, row):
    return float(output == row.answer) + len(row.prompt[0].content) / 100

def process(output, row):
    return os.getpid()

def naughty(output, row):
    if "raise" in output: raise ValueError("no digits\\nin " + output)
    if "two" in output: return 1.0, 2.0
    if "nan" in output: return float("nan")
    if "text" in output: return "1.0"
    if "none" in output: return None
    if "exit" in output: sys.exit(3)
    if "leave" in output: os._exit(4)
    if "hang" in output: time.sleep(60)
    if "print" in output:
        print('{"call": 1, "value": 99.0, "status": "ok"}', flush=True)
        os.system("echo 99")
    if "read" in output and sys.stdin.read(): return 99.0
    return len(output)
"""
BAD = ("raise", "two", "nan", "text", "none", "exit", "leave", "hang")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("own") / "rewards.py"
    path.write_text(FUNCTIONS)
    return path


def row(answer: str = "12", prompt: str = "q", verifier: str = "exact", **metadata: object) -> PromptRow:
    return PromptRow((Message("user", prompt),), answer, verifier, metadata, origin=Origin("rows.jsonl", 3))


def score(rewards: Rewards, rows: Sequence[PromptRow], texts: Sequence[Sequence[str]]) -> list[list[Scored]]:
    groups = [[Completion() for _ in group] for group in texts]
    return rewards.score(rows, [(1,)] * len(rows), groups, texts)


def judge_by(table: dict[int, list[float]]):
    return lambda prompts, groups: [table[prompt[0]] for prompt in prompts]


def test_the_reward_is_the_weighted_sum_of_its_parts(file: Path) -> None:
    judges = {"stage:reward": judge_by({1: [0.5, -1.0, 2.0]})}
    weights = {"exact": 2.0, f"{file}:length": 0.1, "stage:reward": 1.0, "contains": 0.0}
    with Rewards(weights, judges, 10.0) as rewards:
        found = score(rewards, [row()], [["12", "is 12", "13"]])[0]
    assert [one.value for one in found] == pytest.approx([2 + 0.2 + 0.5, 0.5 - 1.0, 0.2 + 2.0])
    assert [one.status for one in found] == ["ok", "parse_failed", "ok"]
    assert found[1].parts == {"exact": 0.0, f"{file}:length": 5.0, "stage:reward": -1.0, "contains": 1.0}


def test_without_weights_every_row_has_its_own_verifier() -> None:
    rows = [row("12"), row("12", verifier="contains"), row("1/2", verifier="math")]
    with Rewards(None, {}, 10.0) as rewards:
        found = score(rewards, rows, [["12"], ["so 12", "no"], ["0.5", "?"]])
        stats = rewards.stats(found)
    assert [[one.value for one in group] for group in found] == [[1.0], [1.0, 0.0], [1.0, 0.0]]
    assert [one.parts for one in found[1]] == [{"contains": 1.0}, {"contains": 0.0}]
    assert stats["rewards/math/mean"].value == 0.5
    assert stats["rewards/exact/mean"].count == 1
    assert stats["rewards/exact/std"].value is None


def test_bug_11_a_verifier_that_returns_two_scores_shifts_no_reward(file: Path) -> None:
    texts = [[f"{bad} {'x' * n}" if n == at else "x" * n for n in range(4)] for at, bad in enumerate(("two",) * 4)]
    with Rewards({f"{file}:naughty": 1.0}, {}, 10.0) as rewards:
        found = score(rewards, [row(prompt=f"prompt {n}") for n in range(4)], texts)
    for at, group in enumerate(found):
        for n, one in enumerate(group):
            if n == at:
                assert math.isnan(one.value)
                assert one.status == "error"
                assert "returned tuple '(1.0, 2.0)', not one number" in one.errors[f"{file}:naughty"]
            else:
                assert (one.value, one.status, one.errors) == (n, "ok", {})


def test_a_completion_that_fails_leaves_all_others_their_own_reward(file: Path) -> None:
    texts = ["a", "raise", "bb", "two", "ccc", "nan", "dddd", "text", "none", "eeeee", "exit", "f", "leave", "gg",
             "print", "hang", "read", "hhh"]  # fmt: skip
    name = f"{file}:naughty"
    started = time.monotonic()
    with Rewards({name: 1.0, "contains": 1.0}, {}, 0.5) as rewards:
        found = score(rewards, [row("x")], [texts])[0]
    assert time.monotonic() - started < 20
    for text, one in zip(texts, found, strict=True):
        if text in BAD:
            assert one.status == "error"
            assert math.isnan(one.value)
            assert math.isnan(one.parts[name])
            assert one.parts["contains"] == 0.0
        else:
            assert (one.value, one.status) == (len(text), "ok")
    said = {text: one.errors.get(name, "") for text, one in zip(texts, found, strict=True)}
    for text, reason in {
        "raise": "raised ValueError: no digits in raise on row",
        "nan": "returned nan on row",
        "none": "returned NoneType",
        "exit": "raised SystemExit: 3 on row",
        "leave": "ended the process (exit code 4) on row",
        "hang": "took longer than 0.5 s on row",
    }.items():
        assert f"{reason} " in said[text]
        assert "(rows.jsonl:3)" in said[text]
        assert "\n" not in said[text]


def test_statistics_of_a_draw() -> None:
    def one(value: float, status: str = "ok") -> Scored:
        return Scored(value, status, {"r": value})

    scored = [[one(1.0), one(3.0)], [one(0.0, "parse_failed"), one(math.nan, "error")], [one(2.0), one(2.0)]]
    stats = Rewards.stats(scored)
    assert stats["rewards/r/mean"].value == 8 / 5
    assert stats["rewards/r/std"].value == pytest.approx((math.sqrt(2) + 0.0) / 2)
    assert stats["reward/error_rate"].value == 1 / 6
    assert stats["reward/parse_failed_rate"].value == 1 / 6
    assert Rewards.stats([])["reward/error_rate"].value is None


@pytest.fixture(scope="module")
def naughty(file: Path) -> Iterator[Rewards]:
    with Rewards({f"{file}:naughty": 0.5, "exact": 1.0}, {}, 10.0) as rewards:
        yield rewards


@settings(max_examples=20, deadline=None)
@given(st.lists(st.sampled_from(["12", "13", "raise", "two", "nan", "it is 12", "", "é\n"]), max_size=8), st.randoms())
def test_permuting_completions_permutes_rewards(naughty: Rewards, texts: list[str], random_: random.Random) -> None:
    order = list(range(len(texts)))
    random_.shuffle(order)
    found = score(naughty, [row()], [texts])[0]
    permuted = score(naughty, [row()], [[texts[place] for place in order]])[0]
    assert [repr(one) for one in permuted] == [repr(found[place]) for place in order]


def test_functions_get_the_row_as_it_is(tmp_path: Path) -> None:
    prompt = (
        Message("user", "é\n"),
        Message("assistant", "", ({"id": "1", "function": {"name": "f", "arguments": {"x": 1}}},)),
        Message("tool", "2", name="f", tool_call_id="1"),
    )
    one = PromptRow(prompt, "a", "x", {"pair": [1, {"k": None}]}, {"task": "t"}, Origin("f.jsonl", 2, ("p",)))
    file = tmp_path / "same.py"
    file.write_text(
        "from trimpot.core.rows import Message, Origin, PromptRow\n"
        f"def same(output, row): return row == {one!r} and row.id == {one.id!r} and output == 'é\\ud800'\n"
    )
    with Rewards({f"{file}:same": 1.0}, {}, 10.0) as rewards:
        assert score(rewards, [one], [["é\ud800"]])[0][0].value == 1.0
        with pytest.raises(UsageError, match=r"rows.jsonl:3: metadata is not JSON .*set"):
            score(rewards, [row(pair={1, 2})], [["a"]])


def test_the_worker_starts_once_and_ends_with_close(file: Path) -> None:
    rewards = Rewards({f"{file}:process": 1.0, "math": 1.0}, {}, 10.0)
    values = [one.parts[f"{file}:process"] for one in score(rewards, [row()] * 2, [["1", "2"], ["3"]])[0]]
    process = int(values[0])
    assert set(values) == {process}
    assert process != os.getpid()
    os.kill(process, 0)
    rewards.close()
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)
    assert score(rewards, [row()], [["1"]])[0][0].status == "ok"
    rewards.close()


def test_a_worker_that_nobody_closes_ends_too(file: Path) -> None:
    worker = Worker(10.0)
    process = int(worker.score(f"{file}:process", "", row()).value)
    del worker
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


PARENT = """
import sys
from trimpot.core.rows import Message, PromptRow
from trimpot.rollout.workers import Worker
worker = Worker(60.0)
row = PromptRow((Message("user", "q"),), "x")
print(int(worker.score(sys.argv[1] + ":process", "", row).value), "torch" in sys.modules, flush=True)
worker.score(sys.argv[1] + ":naughty", "hang", row)
"""


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
def test_the_worker_ends_with_its_parent_even_while_a_function_hangs(file: Path, end: signal.Signals) -> None:
    program = [sys.executable, "-c", PARENT, str(file)]
    parent = subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert parent.stdout is not None
    process, torch_imported = parent.stdout.readline().split()
    time.sleep(0.3)
    parent.send_signal(end)
    assert parent.wait(timeout=10) != 0
    parent.stdout.close()
    for _ in range(100):
        if not Path(f"/proc/{process}").exists():
            break
        time.sleep(0.05)
    assert not _runs(int(process))
    assert torch_imported == "False"


def _runs(process: int) -> bool:
    status = Path(f"/proc/{process}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


def test_check_names_function_row_and_origin_before_a_run(file: Path) -> None:
    own = {
        "naughty": ("raise", r"naughty: raised ValueError.* on row \w+ \(rows.jsonl:3\)"),
        "answer": ("12", None),
    }
    for function, (answer, problem) in own.items():
        with Rewards({f"{file}:{function}": 1.0}, {}, 10.0) as rewards:
            if problem is None:
                rewards.check([row(), row(answer)])
                continue
            with pytest.raises(UsageError, match=problem):
                rewards.check([row(), row(answer)])
    for bad in ("two", "nan", "exit"):
        with Rewards(None, {}, 10.0) as rewards, pytest.raises(UsageError, match=r"naughty: .*rows.jsonl:3"):
            rewards.check([row(), row(bad, verifier=f"{file}:naughty")])


@pytest.mark.parametrize(
    ("row_", "problem"),
    [
        (row(verifier="exakt"), "'exakt': is unknown. Did you mean 'exact'"),
        (row(verifier="none.py:score"), "none.py does not exist"),
        (row(""), "rows.jsonl:3: has no answer for the verifier 'exact'"),
        (row("", verifier="contains"), "rows.jsonl:3: has no answer"),
        (row("a\nb"), r"gives the row's own answer 'a\\nb' only 0 .*rows.jsonl:3"),
        (row("blue sky", verifier="math"), r"rows.jsonl:3.*math-verify cannot read"),
        (row("", verifier="format"), r"rows.jsonl:3.*has no pattern"),
        (row("4", verifier="reasoning_gym"), r"rows.jsonl:3.*no entry of reasoning-gym"),
    ],
)
def test_check_refuses_rows_that_a_verifier_cannot_use(row_: PromptRow, problem: str) -> None:
    with Rewards(None, {}, 10.0) as rewards, pytest.raises(UsageError, match=problem):
        rewards.check([row(), row_])


def test_check_asks_no_judge_and_weights_are_finite() -> None:
    def fails(prompts: object, groups: object) -> list[list[float]]:
        raise AssertionError

    Rewards({"stage:reward": 1.0}, {"stage:reward": fails}, 10.0).check([row("")])
    with pytest.raises(UsageError, match=r"rewards.exact: has the weight nan"):
        Rewards({"exact": math.nan}, {}, 10.0)
    with pytest.raises(UsageError, match="is empty"):
        Rewards({}, {}, 10.0)


def test_a_judge_without_a_finite_number_fails_that_completion_only() -> None:
    rewards = Rewards({"judge": 1.0}, {"judge": judge_by({1: [1.0, math.nan, 3.0]})}, 10.0)
    first, second, third = score(rewards, [row()], [["a", "b", "c"]])[0]
    assert (first.value, third.value, second.status) == (1.0, 3.0, "error")
    with pytest.raises(ValueError):
        score(Rewards({"judge": 1.0}, {"judge": judge_by({1: [1.0]})}, 10.0), [row()], [["a", "b"]])


def reward_model(seed: int) -> RewardModel:
    model = from_policy(tiny("0.1m"))
    torch.manual_seed(seed)
    torch.nn.init.normal_(model.model.score.weight)
    return model


def test_reward_model_judge_scores_every_completion_as_alone_and_combines(monkeypatch: pytest.MonkeyPatch) -> None:
    models = [reward_model(seed) for seed in range(3)]
    prompts = [(5, 6, 7), (8, 9), (5, 6, 7), (4,)]
    groups = [[Completion([n + 10, n + 11][: 1 + k % 2]) for k in range(2)] for n in range(3)] + [[Completion([9])]]
    samples = [
        Sample("x", prompt, (Branch(tuple(one.ids), (False,) * len(one.ids)),))
        for prompt, group in zip(prompts, groups, strict=True)
        for one in group
    ]
    with torch.no_grad():
        alone = torch.stack([torch.cat([model.rewards(pack_one([one])) for one in samples]) for model in models])
    variance = alone.var(0, unbiased=False)
    monkeypatch.setattr("trimpot.rollout.rewards.TOKENS_AT_ONCE", 9)
    for combine, expected in {
        "mean": alone.mean(0),
        "worst": alone.min(0).values,
        "uncertainty": alone.mean(0) - 0.7 * variance,
    }.items():
        found = RewardModelJudge(models, combine, 0.7)(prompts, groups)
        assert [len(group) for group in found] == [2, 2, 2, 1]
        flat = torch.tensor([value for group in found for value in group])
        assert torch.allclose(flat, expected, atol=1e-4)
    with pytest.raises(UsageError):
        RewardModelJudge([], "mean", 0.5)
